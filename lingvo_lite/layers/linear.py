"""A linear map."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base


class Linear(base.BaseLayer):
    """y = x w + b.

    x: [..., input_dim] -> y: [..., output_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Size of the last axis of the input.', type=int)
        p.Define('output_dim', REQUIRED, 'Size of the last axis of the output.', type=int)
        p.Define('use_bias', True, 'Whether to add b.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('w', base.Weight([p.input_dim, p.output_dim]))
        if p.use_bias:
            self.CreateVariable('b', base.Bias(p.output_dim))

    def FProp(self, x: tf.Tensor) -> tf.Tensor:
        """x: [..., input_dim] -> [..., output_dim], in the compute type."""
        x = tf.cast(x, self.dtype)
        if x.shape.rank == 2:
            return self._Product(x)
        # [rows, input_dim]: one product over all leading axes is the fast path on CPUs.
        y = self._Product(tf.reshape(x, [-1, self.params.input_dim]))
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [self.params.output_dim]], axis=0))
        y.set_shape(x.shape[:-1] + [self.params.output_dim])
        return y

    def _Product(self, rows: tf.Tensor) -> tf.Tensor:
        """rows: [rows, input_dim] -> [rows, output_dim]."""
        y = tf.matmul(rows, self.theta.w)
        return tf.nn.bias_add(y, self.theta.b) if self.params.use_bias else y
