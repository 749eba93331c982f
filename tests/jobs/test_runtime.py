"""Which strategy a job gets."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.jobs import runtime


def cluster(monkeypatch, workers):
    hosts = [f'localhost:{2000 + i}' for i in range(workers)]
    config = {'cluster': {'worker': hosts}, 'task': {'type': 'worker', 'index': 0}}
    monkeypatch.setenv('TF_CONFIG', json.dumps(config))


def test_one_device_needs_no_strategy():
    found = runtime.Start(runtime.Wish())
    assert found.strategy is tf.distribute.get_strategy()
    assert (found.replicas, found.num_workers, found.is_chief) == (1, 1, True)
    assert 'threads' in found.description


def test_mirrored_splits_a_cpu():
    found = runtime.Start(runtime.Wish('mirrored', replicas=2))
    assert isinstance(found.strategy, tf.distribute.MirroredStrategy)
    assert found.replicas == found.strategy.num_replicas_in_sync == 2


def test_an_evaler_in_a_cluster_stays_alone(monkeypatch):
    cluster(monkeypatch, 3)
    assert runtime.Start(runtime.Wish(), single_worker=True).num_workers == 1
    with pytest.raises(hyperparams.ConfigError, match='an evaler or decoder is one process'):
        runtime.Start(runtime.Wish('multi_worker'), single_worker=True)


def test_a_cluster_of_several_is_found(monkeypatch):
    cluster(monkeypatch, 3)
    monkeypatch.setattr(runtime, '_MultiWorker', lambda gpus: 'all workers')
    assert runtime.Start(runtime.Wish()) == 'all workers'


@pytest.mark.parametrize(
    ('wish', 'config', 'message'),
    [
        (runtime.Wish('multi_worker'), '', 'needs a cluster: set TF_CONFIG'),
        (runtime.Wish('one', replicas=2), '', '--replicas goes with --strategy=mirrored, not one'),
        (runtime.Wish(), '{"cluster": ', 'TF_CONFIG is no cluster'),
        (runtime.Wish('mirrored', replicas=9), '', 'already runs with 2 logical CPUs'),
    ],
)
def test_what_cannot_be(monkeypatch, wish, config, message):
    monkeypatch.setenv('TF_CONFIG', config)
    with pytest.raises(hyperparams.ConfigError, match=message):
        runtime.Start(wish)
