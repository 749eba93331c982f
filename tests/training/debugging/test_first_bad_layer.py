"""The layer at which values stop being finite is found and named."""

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import task
from lingvo_lite.layers import base, linear
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import optimizers
from lingvo_lite.training.debugging import first_bad_layer


class Planted(linear.Linear):
    """A Linear that can go wrong."""

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('bad', '', 'What is not finite.', choices=('', 'output', 'gradient'))
        return p

    def FProp(self, x):
        y = super().FProp(x)
        if self.params.bad == 'output':
            y *= np.nan
        return _NanGradient(y) if self.params.bad == 'gradient' else y


@tf.custom_gradient
def _NanGradient(y):
    return tf.identity(y), lambda upstream: upstream * np.nan


class Block(base.BaseLayer):
    """x + down(up(x))."""

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('up', Planted.Params(), 'The first layer.')
        return p

    def __init__(self, params):
        super().__init__(params)
        self.CreateChild('up', self.params.up.Copy().Set(input_dim=3, output_dim=4))
        self.CreateChild('down', Planted.Params().Set(input_dim=4, output_dim=3))

    def FProp(self, x):
        return tf.cast(x, self.dtype) + self.down(tf.tanh(self.up(x)))


class StackTask(task.BaseTask):
    """Three blocks."""

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('blocks', [Block.Params() for _ in range(3)], 'Templates.', bound=base.BaseLayer)
        p.Define('remat', False, 'Whether blocks are computed twice.')
        p.Define('bad_loss', False, 'Whether the loss itself is nan.')
        p.train.optimizer = optimizers.SGD.Params()
        return p

    def __init__(self, params):
        super().__init__(params)
        self.CreateChildren('blocks', self.params.blocks)

    def ComputePredictions(self, batch):
        x = batch.x
        for block in self.blocks:
            x = base.Remat(block, x) if self.params.remat else block(x)
        return NestedMap(x=tf.cast(x, tf.float32))

    def ComputeLoss(self, predictions, batch):
        total = tf.reduce_sum(predictions.x**2)
        if self.params.bad_loss:
            total = tf.sqrt(-1.0 - total)
        return NestedMap(terms={'square': (total, tf.cast(tf.size(batch.x), tf.float32))})


def _Params(number, bad, **settings):
    blocks = [Block.Params() for _ in range(3)]
    if bad:
        blocks[number].up.bad = bad
    return StackTask.Params().Set(blocks=blocks, **settings)


def _Batch(seed=0):
    x = np.random.default_rng(seed).normal(size=(2, 4, 3)).astype(np.float32)
    return NestedMap(x=x, names=NestedMap(text=np.array([b'one', b'two'], object)))


@pytest.mark.parametrize('bad', ['output', 'gradient'])
@pytest.mark.parametrize('number', [0, 2])
def test_the_planted_layer_is_found(tiny, number, bad):
    learner = tiny.Learner(_Params(number, bad))
    assert not learner.TrainStep([_Batch()]).Read().finite
    assert first_bad_layer.Find(learner, [_Batch()], 0) == (bad, f'blocks_{number}/up')


def test_a_layer_that_is_rematerialized_is_found(tiny):
    learner = tiny.Learner(_Params(1, 'output', remat=True))
    assert first_bad_layer.Find(learner, [_Batch()], 0) == ('output', 'blocks_1/up')


def test_a_layer_in_the_second_micro_batch_on_the_second_replica_is_found(tiny, two_replicas):
    learner = tiny.Learner(
        _Params(0, '', **{'fprop_dtype': tf.float16, 'train.accumulation': 2}), two_replicas
    )
    batches = [_Batch(), _Batch(1)]
    batches[1].x[1] = 1e5  # inf in float16
    assert first_bad_layer.Find(learner, batches, 0) == ('output', 'blocks_0/up')


def test_causes_outside_of_layers_are_named(tiny):
    learner = tiny.Learner(_Params(0, '', bad_loss=True))
    assert first_bad_layer.Find(learner, [_Batch()], 0) == ('none', '')
    batch = _Batch()
    batch.x[0, 1, 2] = np.nan
    assert first_bad_layer.Find(learner, [batch], 0) == ('batch', 'x (replica 0)')
    learner.task.blocks[1].down.vars.w.assign(np.full([4, 3], np.inf))
    assert first_bad_layer.Find(learner, [_Batch()], 0) == ('variable', 'blocks_1/down/w')


def test_a_sound_step_has_no_bad_layer(tiny):
    learner = tiny.Learner(_Params(0, ''))
    assert first_bad_layer.Find(learner, [_Batch()], 0) == ('none', '')


def test_the_error_says_step_layer_and_file(tiny, tmp_path):
    learner = tiny.Learner(_Params(1, 'output'))
    for _ in range(3):
        result = learner.TrainStep([_Batch()])
    error = first_bad_layer.Diagnose(learner, [_Batch()], result, str(tmp_path))
    path = tmp_path / 'bad_batch-00000003.npz'
    assert str(error) == (
        f'Step 3: loss is nan. First bad layer: blocks_1/up. Batch saved to {path}.'
    )
    (batch,) = first_bad_layer.LoadBatch(path)
    np.testing.assert_array_equal(batch.x, _Batch().x)
    assert batch.names.text.tolist() == [b'one', b'two']


def test_each_worker_saves_its_own_part(tiny, tmp_path):
    learner = tiny.Learner(_Params(1, 'output'))
    result = learner.TrainStep([_Batch()])
    first_bad_layer.Diagnose(learner, [_Batch(5)], result, str(tmp_path), worker=1)
    (batch,) = first_bad_layer.LoadBatch(tmp_path / 'bad_batch-00000001-worker1.npz')
    np.testing.assert_array_equal(batch.x, _Batch(5).x)


def test_a_loss_scale_at_its_floor_is_told_with_the_layers_that_overflow(tiny, tmp_path):
    params = _Params(0, '', **{'fprop_dtype': tf.float16, 'train.loss_scale.initial_scale': 2.0})
    learner = tiny.Learner(params)
    # Finite in float16, and its square too; the gradient of 2 x is not: 2 * 60000 / 24 * 65536.
    learner.task.blocks[1].down.vars.w.assign(np.full([4, 3], 6e4))
    batch = _Batch()
    result = learner.TrainStep([batch])
    assert not learner.MustStop(result.Read())  # 2 can still become 1
    result = learner.TrainStep([batch])
    assert learner.MustStop(result.Read())
    report = first_bad_layer.Inspect(learner, [batch], 1, 1.0)
    assert report.layers[0] == 'blocks_1/down' and len(report.layers) > 2
    message = str(first_bad_layer.Diagnose(learner, [batch], result, str(tmp_path)))
    assert message.startswith('Step 2: loss is ')
    assert (
        'Loss scale: 1, as small as task.train.loss_scale.min_scale allows. Layers that overflow: '
        'blocks_1/down, blocks_1, ' in message
    ), message


def test_the_search_changes_nothing_and_repeats_the_draws_of_the_step(tiny):
    learner = tiny.Learner(_Params(0, 'gradient'))
    result = learner.TrainStep([_Batch()])
    before = tiny.Values(learner.State())
    first_bad_layer.Find(learner, [_Batch()], result.Read().step - 1)
    tiny.AssertClose(tiny.Values(learner.State()), before, rtol=0, atol=0)
