"""Which strategy a job gets."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, task
from lingvo_lite.jobs.devices import runtime


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
    monkeypatch.setattr(runtime, '_MultiWorker', lambda gpus, exchange: 'all workers')
    assert runtime.Start(runtime.Wish()) == 'all workers'


def test_several_workers_get_the_cluster_and_the_communication_that_are_asked_for(monkeypatch):
    cluster(monkeypatch, 3)
    seen = {}

    class Strategy:
        num_replicas_in_sync = 3

        def __init__(self, resolver, options):
            seen.update(resolver=resolver, options=options)

    monkeypatch.setattr(tf.distribute, 'MultiWorkerMirroredStrategy', Strategy)
    exchange = task.TrainParams().communication.Set(implementation='ring', bytes_per_pack=1024)
    found = runtime.Start(runtime.Wish(), exchange=exchange)
    assert (found.worker, found.num_workers, found.replicas) == (0, 3, 1)
    assert '3 workers (TF_CONFIG)' in found.description
    hosts = [f'localhost:{2000 + i}' for i in range(3)]
    assert seen['resolver'].cluster_spec().as_dict() == {'worker': hosts}
    assert seen['resolver'].num_accelerators() == {'GPU': 0}
    assert seen['options'].implementation.name == 'RING'
    assert (seen['options'].bytes_per_pack, seen['options'].timeout_seconds) == (1024, None)


def test_nccl_needs_gpus():
    exchange = task.TrainParams().communication.Set(implementation='nccl')
    with pytest.raises(hyperparams.ConfigError, match="implementation='nccl' needs GPUs"):
        runtime.Start(runtime.Wish('mirrored', replicas=2), exchange=exchange)
    assert runtime.Start(runtime.Wish('one'), exchange=exchange).replicas == 1


@pytest.mark.parametrize(
    ('wish', 'config', 'message'),
    [
        (runtime.Wish('multi_worker'), '', 'needs a cluster: set TF_CONFIG'),
        (runtime.Wish('one', replicas=2), '', '--replicas goes with --strategy=mirrored, not one'),
        (runtime.Wish(), '{"cluster": ', 'TF_CONFIG is no cluster'),
        (runtime.Wish('mirrored', replicas=9), '', r'already runs with \d logical CPUs'),
    ],
)
def test_what_cannot_be(monkeypatch, wish, config, message):
    monkeypatch.setenv('TF_CONFIG', config)
    with pytest.raises(hyperparams.ConfigError, match=message):
        runtime.Start(wish)
