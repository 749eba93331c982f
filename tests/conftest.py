"""What all tests share: quiet logs, logical CPUs for replicas, and step contexts."""

from __future__ import annotations

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import pytest
import tensorflow as tf

from lingvo_lite import step

# Before anything else touches a device: they cannot be changed later.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 6
)


@pytest.fixture
def training_step():
    """The test runs inside a training step: number 3 of a run with seed 7."""
    with step.Context(training=True, step=3, seed=7) as context:
        yield context


@pytest.fixture
def inference_step():
    """The test runs inside a step that does not train."""
    with step.Context(training=False) as context:
        yield context


@pytest.fixture(scope='session')
def two_replicas():
    """MirroredStrategy over two logical CPUs."""
    return tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])


@pytest.fixture(scope='session')
def four_replicas():
    """MirroredStrategy over four logical CPUs, none of which `two_replicas` uses."""

    class Apart(tf.distribute.MirroredStrategy):
        # What TensorFlow's own tests set: otherwise the groups of both strategies have one number.
        _collective_key_base = 100_000

    return Apart([f'CPU:{n}' for n in range(2, 6)])


@pytest.fixture(params=['tensorflow-io', 'libsndfile'])
def audio_decoder(request, monkeypatch):
    """The test runs with tensorflow-io, where it loads, and without."""
    from lingvo_lite.inputs.speech import tfio_flac

    if request.param == 'libsndfile':
        monkeypatch.setattr(tfio_flac, 'Loads', lambda: False)
    elif not tfio_flac.Loads():
        pytest.skip('tensorflow-io does not load')
    return request.param
