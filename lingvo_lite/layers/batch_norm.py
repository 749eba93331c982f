"""Batch normalization of sequences with padding (Ioffe and Szegedy, arXiv 1502.03167)."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.layers.conv import real_positions
from lingvo_lite.layers.initializers import WeightInit


class BatchNorm(base.BaseLayer):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias, for each channel.

    x: [batch, time, ..., model_dim] -> y: the same, in the compute type.

    Training, mean and variance are those of all positions without padding in the global batch (with
    micro-batches: in all replicas' share of one), and the moving averages follow them:
    average = decay * average + (1 - decay) * value. Otherwise they are the moving averages. A batch
    without any such position changes nothing. Statistics are float32 whatever the compute type.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis.', type=int)
        p.Define('decay', 0.99, 'Of the moving averages, in [0, 1).')
        p.Define('epsilon', 1e-3, 'Added to the variance.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'decay', at_least=0, below=1)

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        dim = self.params.model_dim
        self.CreateVariable('scale', base.Scale(dim))
        self.CreateVariable('bias', base.Bias(dim))
        one, zero = WeightInit.Constant(1.0), WeightInit.Constant(0.0)
        self.CreateVariable('moving_mean', base.Weight([dim], init=zero, trainable=False))
        self.CreateVariable('moving_variance', base.Weight([dim], init=one, trainable=False))

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """paddings: [batch, time]."""
        x = tf.cast(x, tf.float32)
        if step.Current().training:
            count, mean, variance = batch_statistics(x, paddings)
            self._Follow(count, mean, variance)
        else:
            mean, variance = self.theta32.moving_mean, self.theta32.moving_variance
        factor = tf.math.rsqrt(variance + self.params.epsilon) * self.theta32.scale
        return tf.cast((x - mean) * factor + self.theta32.bias, self.dtype)

    def _Follow(self, count: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """Moves the averages."""
        if step.Current().recomputing:
            return
        rate = tf.where(count > 0, 1.0 - self.params.decay, 0.0)
        for variable, value in (
            (self.vars.moving_mean, mean),
            (self.vars.moving_variance, variance),
        ):
            average = tf.convert_to_tensor(variable)
            variable.assign(average + rate * (tf.stop_gradient(value) - average))


def batch_statistics(x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mean and variance of each channel, over all positions without padding on all replicas.

    Args:
      x: float32 [batch, time, ..., dim].
      paddings: [batch, time].

    Returns:
      float32: the number of positions, []; mean and variance, [dim]: zeros if there are none.
    """
    axes = list(range(x.shape.rank - 1))
    real = real_positions(paddings, x.shape.rank)
    inner = tf.cast(tf.reduce_prod(tf.shape(x)[2:-1]), tf.float32)
    own = tf.reduce_sum(tf.cast(real, tf.float32)) * inner
    total, count = _sum_over_replicas([tf.reduce_sum(tf.where(real, x, 0.0), axis=axes), own])
    mean = tf.math.divide_no_nan(total, count)
    squares = tf.square(tf.where(real, x - mean, 0.0))
    (total,) = _sum_over_replicas([tf.reduce_sum(squares, axis=axes)])
    return count, mean, tf.math.divide_no_nan(total, count)


def _sum_over_replicas(values: list[tf.Tensor]) -> list[tf.Tensor]:
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return values
    return list(replica.all_reduce(tf.distribute.ReduceOp.SUM, values))
