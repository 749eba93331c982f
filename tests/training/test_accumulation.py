"""A step in micro-batches is the step."""

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import optimizers
from lingvo_lite.training import accumulation


@pytest.mark.parametrize(('rows', 'count'), [(8, 4), (7, 3), (3, 3), (2, 5), (1, 4)])
def test_micro_batches_hold_every_row_once(rows, count):
    batch = NestedMap(
        x=tf.range(rows), deep=NestedMap(y=tf.range(rows)[:, None]), one=tf.constant(7)
    )
    seen = []
    for number in range(count):
        part, counted = accumulation.MicroBatch(batch, number, count)
        assert part.x.shape[0] >= 1
        np.testing.assert_array_equal(part.deep.y[:, 0], part.x)
        assert part.one == 7
        if counted:
            seen += part.x.numpy().tolist()
    assert seen == list(range(rows))


def test_a_micro_batch_waits_for_the_one_before():
    with tf.Graph().as_default():
        before = tf.constant(1.0)
        part, _ = accumulation.MicroBatch(NestedMap(x=tf.zeros([4, 2])), 1, 2, [before])
        ancestors, rest = set(), [part.x.op]
        while rest:
            op = rest.pop()
            ancestors.add(op)
            rest += [*op.control_inputs, *(tensor.op for tensor in op.inputs)]
        assert before.op in ancestors


@pytest.mark.parametrize('by_row', [False, True])
def test_micro_batches_change_nothing(tiny, by_row):
    settings = {
        'train.optimizer': optimizers.Adam.Params(),
        'train.clip_gradient_norm_to_value': 0.3,
        'by_row': by_row,
    }
    whole = tiny.Learner(tiny.Params(**settings))
    parts = tiny.Learner(tiny.Params(**settings, **{'train.accumulation': 3}))
    # Lengths differ by row, so the micro-batches differ in weight; the second has fewer rows than
    # there are micro-batches; the third has micro-batches without any weight.
    for batch in (tiny.Batch(rows=7), tiny.Batch(rows=2, seed=1), tiny.Batch(rows=6, fill=4)):
        wanted, numbers = (learner.TrainStep([batch]).Read() for learner in (whole, parts))
        assert numbers.weights == wanted.weights
        assert numbers.loss == pytest.approx(wanted.loss, rel=1e-5)
        assert numbers.grad_norm == pytest.approx(wanted.grad_norm, rel=1e-5)
        assert numbers.metrics.bias == pytest.approx(wanted.metrics.bias, rel=1e-4)
    tiny.AssertClose(tiny.Values(parts.State()), tiny.Values(whole.State()), rtol=1e-4)


def test_a_sum_too_large_for_float16_is_divided_before_the_backward_pass(tiny):
    settings = {'fprop_dtype': tf.float16, 'train.loss_scale.method': 'static'}
    settings['train.loss_scale.initial_scale'] = 2.0**12
    settings['train.accumulation'] = 2
    learner = tiny.Learner(tiny.Params(**settings))
    # 2^12 * 512 tokens would be 2^21 if the sum over tokens were differentiated.
    assert learner.TrainStep([tiny.Batch(rows=16, time=64)]).Read().finite


def test_micro_batches_draw_their_own_dropout(tiny):
    # The seed of a draw over activations depends on the number of the micro-batch.
    seeds = []
    for number in range(2):
        with step.Context(training=True, step=3, seed=1, micro_batch=number):
            seeds.append(step.ActivationSeed('encoder/dropout').numpy().tolist())
    assert seeds[0] != seeds[1]
