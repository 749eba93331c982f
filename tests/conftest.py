"""What all tests share: quiet logs, logical CPUs for replicas, and step contexts."""

from __future__ import annotations

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.testing import process_memory

# Before anything else touches a device: they cannot be changed later.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 6
)


class _Memory:
    """Frees what tests are done with, and says whose test takes this process beyond the limit."""

    # MB; tools/test.sh sets it.
    limit = int(os.environ.get('LINGVO_LITE_TEST_MEMORY_MB', 0))
    growth = 256 * 2**20

    def __init__(self):
        self._held = 0  # after the last collection
        self._before = 0  # the peak before this module
        self._said = False

    def pytest_collection_finish(self):
        process_memory.Freeze()
        self._Collected()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        yield
        if nextitem is None or nextitem.path != item.path:
            process_memory.CollectGraphs()
            self._Collected()
        elif process_memory.Held() > self._held + self.growth:
            process_memory.Collect()
            self._Collected()

    def _Collected(self):
        self._held = process_memory.Held()
        self._before = process_memory.Peak()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item):
        peak = process_memory.Peak()
        if self.limit and peak > self.limit * 2**20 and not self._said:
            self._said = True
            pytest.fail(
                f'{item.location[0]}: this process has held {peak // 2**20} MB; it was '
                f'{self._before // 2**20} MB before, and at most {self.limit} MB are meant to be '
                '(LINGVO_LITE_TEST_MEMORY_MB). "How to work here" in BUILD_NOTES.md says what '
                'holds memory.',
                pytrace=False,
            )


def pytest_configure(config):
    config.pluginmanager.register(_Memory(), 'lingvo_lite_memory')


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
