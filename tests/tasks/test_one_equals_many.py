"""One replica, two and four make the same update of a whole task from the same global batch."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tiny_tasks

from lingvo_lite.optim import optimizers, schedules
from lingvo_lite.training import learner, precision

# The layers that replicas share something of: batch norm, and what counts tokens or utterances.
EQUAL = tiny_tasks.Marked(
    tiny_tasks.KINDS, fast=['asr.LibrispeechMini', 'mt.NumbersEnDe', 'lm.LibrispeechChar']
)
SOME = ['asr.SpokenDigits', 'asr.SpokenDigitsLas', 'lm.LibrispeechChar', 'mt.NumbersEnDe']

# The examples of each step. 7 are 2, 2, 2, 1 of four replicas; one leaves three of them empty.
STEPS = ([4, 5, 6, 7, 8, 13, 14], [15], [16, 18, 19])
# A micro-batch is the same examples only if rows divide by replicas and micro-batches.
EVEN_STEPS = ([4, 5, 6, 7, 8, 13, 14, 15], [16, 17, 18, 19, 20, 21, 22, 23])


def Params(name, **settings):
    """All that replicas must agree on, and no draws over activations."""
    p = tiny_tasks.Quiet(tiny_tasks.Params(name))
    p.train.Set(
        optimizer=optimizers.Momentum.Params().Set(alpha=0.9),
        learning_rate=0.5,
        lr_schedule=schedules.Constant.Params(),
        clip_gradient_norm_to_value=0.1,
        ema_decay=0.9,
        l2_regularizer_weight=0.01,
        vn_std=0.02,
        vn_start_step=0,
    )
    p.vn.global_vn = True
    if name == 'asr.LibrispeechMini':
        # Quick to trace seven times; asr.LibrispeechWave2Letter has all its blocks.
        p.encoder.blocks = p.encoder.blocks[:1]
    for key in tiny_tasks.Keys(p):
        if key.endswith('label_smoothing'):
            p.Set(**{key: 0.1})
    return p.Set(**settings)


def Learner(p, strategy):
    with strategy.scope():
        task = p.Instantiate()
    return learner.Learner(task, strategy)


def Batches(p, ids, replicas):
    """Row i goes to replica i modulo replicas, as the input does it."""
    rows = -(-len(ids) // replicas)
    parts = [ids[replica::replicas] for replica in range(replicas)]
    fill = tiny_tasks.FILL
    return [tiny_tasks.Batch(p, part + [fill] * (rows - len(part))) for part in parts]


def Copies(one):
    """{name: [value on each replica]} of the whole state."""
    local = one.strategy.experimental_local_results
    return {name: [v.numpy() for v in local(each)] for name, each in one.State().items()}


def AssertReplicasEqual(copies):
    for name, (first, *others) in copies.items():
        for other in others:
            np.testing.assert_array_equal(first, other, err_msg=name)


def AssertEqualSteps(p, steps, strategies):
    one = Learner(p, tf.distribute.get_strategy())
    several = [Learner(p, strategy) for strategy in strategies]
    for ids in steps:
        before = Copies(one)
        wanted = one.TrainStep(Batches(p, ids, 1)).Read()
        assert wanted.grad_norm > p.train.clip_gradient_norm_to_value
        state = Copies(one)
        moved = [np.abs(state[path][0] - before[path][0]).max() for path in one.task.AllVariables()]
        assert max(moved) > 5e-3
        for many in several:
            count = many.strategy.num_replicas_in_sync
            numbers = many.TrainStep(Batches(p, ids, count)).Read()
            for key in ('loss', 'grad_norm', 'regularization'):
                assert numbers[key] == pytest.approx(wanted[key], rel=1e-4), (key, count)
            assert numbers.weights == wanted.weights
            copies = Copies(many)
            AssertReplicasEqual(copies)
            assert copies.keys() == state.keys()
            for name, (value,) in state.items():
                np.testing.assert_allclose(
                    copies[name][0], value, atol=1e-5, rtol=1e-5, err_msg=f'{name} of {count}'
                )
    assert all(many.num_traces == 1 for many in several)


@pytest.mark.parametrize('name', EQUAL)
def test_a_step(name, two_replicas, four_replicas):
    AssertEqualSteps(Params(name), STEPS, [two_replicas, four_replicas])


@pytest.mark.slow
@pytest.mark.parametrize('name', SOME)
def test_a_step_of_micro_batches(name, two_replicas, four_replicas):
    p = Params(name, **{'train.accumulation': 2})
    AssertEqualSteps(p, EVEN_STEPS, [two_replicas, four_replicas])


@pytest.mark.slow
@pytest.mark.parametrize('name', SOME)
def test_an_overflow_on_any_replica_skips_the_step_on_all(name, four_replicas):
    p = Params(name, **{'train.precision': 'mixed_float16', 'train.loss_scale.method': 'backoff'})
    precision.Apply(p)
    many = Learner(p, four_replicas)
    MakeLoud(many.task)

    def Step(loud=None):
        batches = Batches(p, STEPS[0], 4)
        for replica, batch in enumerate(batches):
            # Its gradient is finite in float32, and infinite in float16.
            batch.loud = np.full([len(batch.id)], 1e25 if replica == loud else 1.0, np.float32)
        return many.TrainStep(batches).Read()

    assert Step().finite
    for replica in range(4):
        before = Copies(many)
        numbers = Step(loud=replica)
        after = Copies(many)
        assert not numbers.finite and np.isfinite(numbers.loss)
        assert numbers.skipped == replica + 1
        changed = {name for name in after if not np.array_equal(after[name], before[name])}
        counters = {name for name in changed if not name.startswith('.loss_scale/')}
        assert counters == {'.step', '.skipped', '.skipped_in_a_row'}
        AssertReplicasEqual(after)
        following = Step()
        assert following.finite and following.loss_scale == numbers.loss_scale / 2
        AssertReplicasEqual(Copies(many))


def MakeLoud(task):
    """The loss of a replica times `batch.loud`."""
    quiet = task.ComputeLoss

    def ComputeLoss(predictions, batch):
        out = quiet(predictions, batch)
        total, weight = out.terms['loss']
        out.terms['loss'] = (total * tf.reduce_max(batch.loud), weight)
        return out

    task.ComputeLoss = ComputeLoss
