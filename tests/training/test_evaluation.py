"""Losses and hypotheses without training."""

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import evaluation


def _Batches(tiny):
    return [tiny.Batch(rows=3, seed=0), tiny.Batch(rows=3, seed=1, fill=1)]


def test_sums_are_over_replicas_and_values_by_row(tiny, two_replicas):
    with two_replicas.scope():
        task = tiny.Params(by_row=True).Instantiate()
    evaluator = evaluation.Evaluator(task, two_replicas)
    batches = _Batches(tiny)
    found = evaluator.EvalStep(batches)
    with step.Context(training=False):
        whole = tiny.Join(batches).Transform(tf.constant)
        wanted = task.ComputeLoss(task.ComputePredictions(whole), whole)
    for name in ('token', 'row'):
        assert found.terms[name] == pytest.approx([float(x) for x in wanted.terms[name]], rel=1e-5)
    assert found.metrics.bias == pytest.approx([float(x) for x in wanted.metrics['bias']], rel=1e-4)
    rows = np.concatenate([each.squared_error for each in found.per_example])
    np.testing.assert_allclose(rows, wanted.per_example['squared_error'], rtol=1e-5)
    assert [len(each.squared_error) for each in found.per_example] == [3, 3]


def test_one_trace_and_no_change(tiny):
    task = tiny.Params().Instantiate()
    evaluator = evaluation.Evaluator(task, tf.distribute.get_strategy())
    before = tiny.Values(task.AllVariables())
    for rows, time in [(4, 6), (1, 1), (5, 9)]:
        evaluator.EvalStep([tiny.Batch(rows, time)])
    assert evaluator.num_traces == 1
    tiny.AssertClose(tiny.Values(task.AllVariables()), before, rtol=0, atol=0)


def test_moving_averages_can_stand_in(tiny):
    learner = tiny.Learner(tiny.Params(**{'train.ema_decay': 0.9}))
    for seed in range(3):
        learner.TrainStep([tiny.Batch(seed=seed)])
    averaged = evaluation.Evaluator(learner.task, learner.strategy, learner.Substitutes())
    plain = evaluation.Evaluator(learner.task, learner.strategy)
    found = averaged.EvalStep([tiny.Batch()]).terms.token
    assert found != plain.EvalStep([tiny.Batch()]).terms.token
    for path, variable in learner.task.AllVariables().items():
        variable.assign(learner.State()[f'{path}/.ema'])
    assert found == pytest.approx(plain.EvalStep([tiny.Batch()]).terms.token)


def test_decode_comes_back_by_replica(tiny, two_replicas):
    with two_replicas.scope():
        task = tiny.Params().Instantiate()
    batches = _Batches(tiny)
    decoded = evaluation.Decoder(task, two_replicas).DecodeStep(batches)
    for found, batch in zip(decoded, batches):
        with step.Context(training=False):
            wanted = task.ComputePredictions(batch.Transform(tf.constant)).y
        np.testing.assert_allclose(found.y, wanted, rtol=1e-5)
        np.testing.assert_array_equal(found.id, batch.id)


def test_layers_know_that_they_are_not_training(tiny):
    task = tiny.Params().Instantiate()

    def Training(batch):
        return NestedMap(training=tf.constant(step.Current().training), nothing=None)

    ask = evaluation.OnReplicas(task, tf.distribute.get_strategy(), Training, 'ask')
    (found,) = ask([tiny.Batch()])
    assert not found.training
    assert found.nothing is None
