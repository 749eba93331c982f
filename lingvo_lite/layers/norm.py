"""Normalization over the last axis. Statistics are float32 whatever the compute type."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.layers.initializers import WeightInit


class LayerNorm(base.BaseLayer):
    """y = (x - mean(x)) / sqrt(var(x) + epsilon) * scale + bias (Ba et al., arXiv 1607.06450).

    x: [..., model_dim] -> y: [..., model_dim], in the compute type.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis.', type=int)
        p.Define('epsilon', 1e-6, 'Added to the variance.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        dim = self.params.model_dim
        one, zero = WeightInit.Constant(1.0), WeightInit.Constant(0.0)
        self.CreateVariable('scale', base.Weight([dim], init=one, regularize=False))
        self.CreateVariable('bias', base.Weight([dim], init=zero, regularize=False))

    def FProp(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        centered = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
        y = centered * tf.math.rsqrt(variance + self.params.epsilon)
        return tf.cast(y * self.theta32.scale + self.theta32.bias, self.dtype)


class RmsNorm(base.BaseLayer):
    """y = x / sqrt(mean(x^2) + epsilon) * scale (Zhang and Sennrich, arXiv 1910.07467).

    x: [..., model_dim] -> y: [..., model_dim], in the compute type.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis.', type=int)
        p.Define('epsilon', 1e-6, 'Added to the mean square.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        init = WeightInit.Constant(1.0)
        weight = base.Weight([self.params.model_dim], init=init, regularize=False)
        self.CreateVariable('scale', weight)

    def FProp(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        y = x * tf.math.rsqrt(square + self.params.epsilon)
        return tf.cast(y * self.theta32.scale, self.dtype)
