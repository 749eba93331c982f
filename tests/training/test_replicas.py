"""Two replicas are one: the same global batch gives the same update."""

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.optim import optimizers


def _Settings(**more):
    return {
        'train.optimizer': optimizers.Adam.Params(),
        'train.clip_gradient_norm_to_value': 0.3,
        'train.ema_decay': 0.9,
        'train.l2_regularizer_weight': 0.01,
        'by_row': True,
        'loss_weights': {'row': 0.5},
        **more,
    }


def _Copies(strategy, learner):
    """{name: [value on each replica]} of the whole state."""
    return {
        name: [copy.numpy() for copy in strategy.experimental_local_results(variable)]
        for name, variable in learner.State().items()
    }


def _AssertReplicasEqual(strategy, learner):
    for name, (first, second) in _Copies(strategy, learner).items():
        np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.parametrize('count', [1, 3])
def test_two_replicas_equal_one_on_the_same_global_batch(tiny, two_replicas, count):
    p = tiny.Params(**_Settings(**{'train.accumulation': count}))
    one = tiny.Learner(tiny.Params(**_Settings()))
    two = tiny.Learner(p, two_replicas)
    halves = [
        [tiny.Batch(rows=4, seed=0), tiny.Batch(rows=4, seed=1, fill=2)],  # unequal weights
        [tiny.Batch(rows=2, seed=2), tiny.Batch(rows=2, seed=3, fill=2)],  # the second has none
        [tiny.Batch(rows=3, time=9, seed=4), tiny.Batch(rows=3, time=9, seed=5)],
    ]
    for batches in halves:
        numbers = two.TrainStep(batches).Read()
        wanted = one.TrainStep([tiny.Join(batches)]).Read()
        assert numbers.weights == wanted.weights
        for key in ('loss', 'grad_norm', 'regularization'):
            assert numbers[key] == pytest.approx(wanted[key], rel=1e-4), key
        assert numbers.terms == pytest.approx(wanted.terms, rel=1e-4)
        assert numbers.metrics.bias == pytest.approx(wanted.metrics.bias, rel=1e-4)
        assert wanted.grad_norm > 0.3
    tiny.AssertClose(tiny.Values(two.State()), tiny.Values(one.State()), rtol=2e-4, atol=1e-5)
    _AssertReplicasEqual(two_replicas, two)
    assert two.num_traces == 1


def test_an_overflow_on_the_second_replica_skips_the_step_on_both(tiny, two_replicas):
    p = tiny.Params(
        **_Settings(**{'fprop_dtype': tf.float16, 'train.loss_scale.method': 'backoff'})
    )
    learner = tiny.Learner(p, two_replicas)
    good = [tiny.Batch(seed=0), tiny.Batch(seed=1)]
    learner.TrainStep(good)
    before = _Copies(two_replicas, learner)
    bad = [tiny.Batch(seed=2), tiny.Batch(seed=3)]
    bad[1].x[0] = 1e6  # finite in float32, inf in float16
    numbers = learner.TrainStep(bad).Read()
    after = _Copies(two_replicas, learner)
    changed = {name for name in after if not np.array_equal(after[name], before[name])}
    counters = {name for name in changed if not name.startswith('.loss_scale/')}
    assert counters == {'.step', '.skipped', '.skipped_in_a_row'}
    assert not numbers.finite and numbers.skipped == 1
    following = learner.TrainStep(good).Read()
    assert following.finite and following.loss_scale < numbers.loss_scale
    _AssertReplicasEqual(two_replicas, learner)


def test_weight_noise_is_the_same_on_all_replicas(tiny, two_replicas):
    noise = _Settings(**{'train.vn_std': 0.3, 'vn.global_vn': True})
    one, two = tiny.Learner(tiny.Params(**noise)), tiny.Learner(tiny.Params(**noise), two_replicas)
    quiet = tiny.Learner(tiny.Params(**_Settings()))
    halves = [tiny.Batch(seed=0), tiny.Batch(seed=1)]
    loss = two.TrainStep(halves).Read().loss
    assert loss == pytest.approx(one.TrainStep([tiny.Join(halves)]).Read().loss, rel=1e-4)
    assert abs(loss - quiet.TrainStep([tiny.Join(halves)]).Read().loss) > 1e-3


def test_draws_over_activations_differ_by_replica(tiny, two_replicas):
    class Drawing(tiny.TinyTask):
        def ComputeLoss(self, predictions, batch):
            loss = super().ComputeLoss(predictions, batch)
            seed = step.ActivationSeed('dropout')
            draw = tf.random.stateless_uniform([], seed)
            # Replica 0 has weight 1, replica 1 has weight 0: the mean is the draw of replica 0.
            first = 1.0 - tf.cast(step.Current().replica, tf.float32)
            loss.metrics = {'first': (draw * first, first), 'mean': (draw, 1.0)}
            return loss

    p = Drawing.Params()
    metrics = tiny.Learner(p, two_replicas).TrainStep([tiny.Batch()] * 2).Read().metrics
    assert metrics.first[1] == 1 and metrics['mean'][1] == 2
    assert metrics.first[0] != pytest.approx(metrics['mean'][0])
