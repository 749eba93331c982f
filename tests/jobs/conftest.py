"""Runs of a tiny experiment, trained in this process."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
import tensorflow as tf

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'e2e'))

import job_runs
import tiny_experiment

from lingvo_lite.inputs import data_files


@pytest.fixture(scope='session', autouse=True)
def data_folder(tmp_path_factory):
    """The data folder of all jobs here."""
    folder = tmp_path_factory.mktemp('data')
    tiny_experiment.WriteData(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('LINGVO_LITE_DATA', str(folder))
        patch.setenv('LINGVO_LITE_CACHE', str(tmp_path_factory.mktemp('cache')))
        patch.setenv('LINGVO_LITE_TRACEBACK', '')
        yield folder


@pytest.fixture(autouse=True)
def no_data_dir():
    """--data_dir holds for a process; a test must not hand it to the next."""
    yield
    data_files.SetDataDir(None)


@pytest.fixture
def mirrored(two_replicas, monkeypatch):
    """--strategy=mirrored, with the one strategy of this process.

    A second MirroredStrategy over the same devices numbers its collectives from the start again,
    and TensorFlow takes them for those of the first. A job makes one only.
    """
    monkeypatch.setattr(tf.distribute, 'MirroredStrategy', lambda devices: two_replicas)
    return '--strategy=mirrored'


@pytest.fixture(scope='session')
def finished(tmp_path_factory, data_folder):
    """A run of 20 steps with checkpoints at 5, 10, 15 and 20. Copy it before writing into it."""
    run = tmp_path_factory.mktemp('finished') / 'run'
    assert job_runs.train(run) == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / 'run')
