"""Where a token stands: sinusoids, learned vectors, rotations. All tables are float32."""

from __future__ import annotations

import math
from typing import Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.layers.initializers import WeightInit

_BASE = 10000.0


class Sinusoid(base.BaseLayer):
    """y_t = x_t + [sin(t * w), cos(t * w)], w_i = 10000^(-2 i / model_dim).

    (Vaswani et al., 2017, section 3.5, with all sines in front of all cosines.)

    x: [batch, time, model_dim] -> y: the same.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis; even.', type=int)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.Require(p, p.model_dim % 2 == 0, 'model_dim', 'even')

    def FProp(self, x: tf.Tensor, position: Optional[tf.Tensor] = None) -> tf.Tensor:
        """Adds the table.

        Args:
          x: [batch, time, model_dim].
          position: int scalar, the position of x[:, 0]; 0 unless given.
        """
        angles = position_angles(position, tf.shape(x)[1], self.params.model_dim)
        table = tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)
        return x + tf.cast(table, x.dtype)


class LearnedPositions(base.BaseLayer):
    """y_t = x_t + table[t].

    x: [batch, time, model_dim] -> y: the same.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis.', type=int)
        p.Define('max_positions', REQUIRED, 'Rows of the table; no sequence is longer.', type=int)
        p.params_init = WeightInit.Gaussian(0.02)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('table', base.Weight([p.max_positions, p.model_dim]))

    def FProp(self, x: tf.Tensor, position: Optional[tf.Tensor] = None) -> tf.Tensor:
        """Adds the table.

        Args:
          x: [batch, time, model_dim].
          position: int scalar, the position of x[:, 0]; 0 unless given.

        Raises:
          tf.errors.InvalidArgumentError: at run time, if x reaches beyond max_positions.
        """
        start = 0 if position is None else position
        end = start + tf.shape(x)[1]
        fits = tf.debugging.assert_less_equal(
            end,
            self.params.max_positions,
            f'{self.path or type(self).__name__}: the sequence is longer than max_positions='
            f'{self.params.max_positions}. Set max_positions, or drop what is longer.',
        )
        with tf.control_dependencies([fits] if fits is not None else []):
            rows = tf.identity(self.theta32.table)[start:end]
        return x + tf.cast(rows, x.dtype)


def position_angles(position: Optional[tf.Tensor], time: tf.Tensor, dim: int) -> tf.Tensor:
    """t * 10000^(-2 i / dim): float32 [time, dim / 2].

    Args:
      position: int scalar, t of the first row; 0 if None.
      time: int scalar, number of rows.
      dim: even Python int.
    """
    start = 0 if position is None else tf.cast(position, tf.int32)
    t = tf.cast(start + tf.range(time), tf.float32)
    inverse = tf.exp(tf.range(dim // 2, dtype=tf.float32) * (-2.0 * math.log(_BASE) / dim))
    return t[:, tf.newaxis] * inverse


def rotate(x: tf.Tensor, position: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Rotary positions (Su et al., arXiv 2104.09864).

    Turns the pair (x_i, x_{i + dim/2}) at position t by the angle t * 10000^(-2 i / dim), so that
    the product of two vectors depends on the distance of their positions alone.

    Args:
      x: [batch, heads, time, dim], dim even.
      position: int scalar, the position of x[:, :, 0]; 0 if None.

    Returns:
      As x, in its type.
    """
    angles = position_angles(position, tf.shape(x)[2], x.shape[-1])
    cos, sin = tf.cos(angles), tf.sin(angles)
    first, second = tf.split(tf.cast(x, tf.float32), 2, axis=-1)
    turned = tf.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return tf.cast(turned, x.dtype)
