"""A tiny task with a loss by tokens and one by rows, and batches for it."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import task
from lingvo_lite.layers import linear
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import optimizers
from lingvo_lite.training import learner

DIM, HIDDEN = 3, 5


class TinyTask(task.BaseTask):
    """Regression of y on x by two layers: squared error by token, absolute error by row."""

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('by_row', False, 'Whether the term `row` is part of the loss.')
        return p

    def __init__(self, params):
        super().__init__(params)
        self.CreateChild('first', linear.Linear.Params().Set(input_dim=DIM, output_dim=HIDDEN))
        self.CreateChild('second', linear.Linear.Params().Set(input_dim=HIDDEN, output_dim=1))

    def ComputePredictions(self, batch):
        hidden = tf.tanh(self.first(batch.x))
        # [batch, time]
        return NestedMap(y=tf.cast(self.second(hidden)[..., 0], tf.float32))

    def ComputeLoss(self, predictions, batch):
        error = predictions.y - batch.y
        by_example = tf.reduce_sum(batch.weights * error**2, axis=1)
        terms = {'token': (tf.reduce_sum(by_example), tf.reduce_sum(batch.weights))}
        if self.params.by_row:
            by_row = tf.reduce_sum(batch.weights * tf.abs(error), axis=1)
            terms['row'] = (
                tf.reduce_sum(batch.row_weight * by_row),
                tf.reduce_sum(batch.row_weight),
            )
        return NestedMap(
            terms=terms,
            metrics={'bias': (tf.reduce_sum(batch.weights * error), tf.reduce_sum(batch.weights))},
            per_example={'squared_error': by_example},
        )

    def Decode(self, batch):
        return NestedMap(y=self.ComputePredictions(batch).y, id=batch.id)


def Batch(rows=4, time=6, seed=0, fill=0):
    """Random data with lengths that differ by row; the last `fill` rows hold nothing."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, time + 1, rows)
    lengths[rows - fill :] = 0
    weights = (np.arange(time)[None] < lengths[:, None]).astype(np.float32)
    real = np.arange(rows) < rows - fill
    return NestedMap(
        x=rng.normal(size=(rows, time, DIM)).astype(np.float32),
        y=rng.normal(size=(rows, time)).astype(np.float32),
        weights=weights,
        id=np.where(real, np.arange(rows), -1),
        row_weight=real.astype(np.float32),
    )


def Join(batches):
    """The rows of several batches as one."""
    return NestedMap({k: np.concatenate([b[k] for b in batches]) for k in batches[0]})


def Params(**settings):
    """Params of the task, with plain gradient descent."""
    p = TinyTask.Params().Set(
        **{'train.optimizer': optimizers.SGD.Params(), 'train.learning_rate': 0.1}
    )
    return p.Set(**settings)


def Learner(params, strategy=None):
    """A learner, with its task, in the scope of a strategy."""
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        built = params.Instantiate()
    return learner.Learner(built, strategy)


def Values(variables):
    """{name: numpy array}."""
    return {name: variable.numpy() for name, variable in variables.items()}


def AssertClose(actual, wanted, rtol=1e-5, atol=1e-6):
    """Two dicts of arrays agree."""
    assert actual.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(actual[name], value, rtol=rtol, atol=atol, err_msg=name)


def OverflowParams():
    """float16, for worker processes."""
    return Params(
        **{
            'fprop_dtype': tf.float16,
            'by_row': True,
            'train.optimizer': optimizers.Momentum.Params(),
            'train.clip_gradient_norm_to_value': 0.5,
            'train.ema_decay': 0.9,
            'train.accumulation': 2,
            'train.loss_scale.initial_scale': 1024.0,
        }
    )


def OverflowBatch(worker, number):
    """The batch of a worker; two of three overflow float16 on one worker, which takes turns.

    Number 3w + 1 overflows in the forward pass on worker w, and 3w + 2 in the gradient only. One
    worker in three has no rows; that which overflows has no fill rows.
    """
    turn, overflow = divmod(number, 3)
    batch = Batch(rows=4, seed=3 * number + worker, fill=2 * ((worker - turn) % 3))
    if worker == turn and overflow:
        if overflow == 1:
            batch.x[0] = 1e6
        else:
            batch.y[0] = 1e15  # the loss is float32, so 1e30 is no overflow
    return batch


def SharedParams():
    """float32 with all that must not depend on the number of worker processes."""
    return Params(
        **{
            'by_row': True,
            'loss_weights': {'row': 0.5},
            'train.optimizer': optimizers.Momentum.Params(),
            'train.clip_gradient_norm_to_value': 0.3,
            'train.l2_regularizer_weight': 0.01,
            'train.ema_decay': 0.9,
            'train.accumulation': 2,
            'train.vn_std': 0.1,
            'vn.global_vn': True,
        }
    )


# Rows of global batches: one that does not divide, a long and a short one, a single row.
SHARED_ROWS = (7, 12, 4, 1)


def Share(rows, worker, count):
    """A worker's rows of the global batch of so many rows, as the pipeline shares them out."""
    batch = Batch(rows=rows, seed=rows)
    each = -(-rows // count)
    own = batch.Transform(lambda value: value[worker::count])
    missing = each - len(own.id)
    nothing = Batch(rows=each, fill=each)
    return NestedMap({k: np.concatenate([own[k], nothing[k][:missing]]) for k in own})


@pytest.fixture(scope='session')
def tiny():
    """Everything above."""
    return types.SimpleNamespace(**{k: v for k, v in globals().items() if k[0].isupper()})
