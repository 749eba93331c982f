"""A data folder of each test's own, which is the cache folder too; and graphs as jobs run them."""

import os
import sys

import pytest
import tensorflow as tf

from lingvo_lite.inputs import data_files

sys.path.insert(0, os.path.dirname(__file__))  # tiny_tasks


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv('LINGVO_LITE_DATA', raising=False)
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path))
    data_files.SetDataDir(str(tmp_path))
    yield tmp_path
    data_files.SetDataDir(None)


@pytest.fixture(autouse=True, scope='module')
def _no_meta_optimizer():
    """As jobs have it: Grappler takes longer than it gives back."""
    key = 'disable_meta_optimizer'
    before = tf.config.optimizer.get_experimental_options().get(key, False)
    tf.config.optimizer.set_experimental_options({key: True})
    yield
    tf.config.optimizer.set_experimental_options({key: before})
