"""Dropout that costs little (Srivastava et al., 2014)."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import Self
from lingvo_lite.layers import base

_LEVELS = 256


class Dropout(base.BaseLayer):
    """y = x * m / (1 - r), each entry of m 0 with probability r and 1 otherwise.

    The probability r is `rate` rounded to a multiple of 1/256, because a random byte decides about
    each entry (four times fewer draws than with floats). The scale is exact for the rounded r, so
    the mean stays that of x. Nothing happens when not training.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('rate', 0.0, 'Probability that an entry becomes zero, in [0, 1).')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'rate', at_least=0, below=1)
        if p.rate and not 0 < _DroppedLevels(p.rate) < _LEVELS:
            raise hyperparams.Fail(
                p, f'rate={p.rate} is 0 or 1 when rounded to 1/{_LEVELS}. Use 0.0 for none.', 'rate'
            )

    def FProp(self, x: tf.Tensor) -> tf.Tensor:
        """x: any shape -> the same shape and type."""
        rate = self.params.rate
        if not rate or not step.Current().training:
            return x
        kept = keep_mask(tf.shape(x), rate, step.ActivationSeed(self.path))
        # In bfloat16 the scale of rate 0.1 would be 0.3% too small.
        scaled = tf.cast(x, tf.float32) * (_LEVELS / (_LEVELS - _DroppedLevels(rate)))
        return tf.cast(scaled, x.dtype) * tf.cast(kept, x.dtype)


def keep_mask(shape: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """bool, False with probability `rate`, rounded to 1/256.

    Args:
      shape: int32 [rank].
      rate: Python float.
      seed: int32 [2].
    """
    size = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform(
        [(size + 3) // 4], seed, minval=None, maxval=None, dtype=tf.uint32, alg='philox'
    )
    # [words] -> [words, 4] -> [size] -> shape
    bytes_ = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], shape)
    return bytes_ >= _DroppedLevels(rate)


def _DroppedLevels(rate: float) -> int:
    return round(rate * _LEVELS)
