"""Normalization over the last axis. Statistics are float32 whatever the compute type."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base


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
        self.CreateVariable('scale', base.Scale(dim))
        self.CreateVariable('bias', base.Bias(dim))

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
        self.CreateVariable('scale', base.Scale(self.params.model_dim))

    def FProp(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.cast(x, tf.float32)
        square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        y = x * tf.math.rsqrt(square + self.params.epsilon)
        return tf.cast(y * self.theta32.scale, self.dtype)
