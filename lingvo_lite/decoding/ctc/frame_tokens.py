"""The token that each frame adds to a text, and the text that they make."""

from __future__ import annotations

import tensorflow as tf

NO_TOKEN = -1  # of a frame that adds none


def compact(tokens: tf.Tensor, fill: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The texts.

    Args:
      tokens: int32 [a, n, time], NO_TOKEN where a frame adds none.
      fill: what stands behind the end of a text.

    Returns:
      int32 [a, n, longest text], and the lengths, int32 [a, n].
    """
    there = tokens != NO_TOKEN
    lengths = tf.reduce_sum(tf.cast(there, tf.int32), axis=-1)
    longest = tf.reduce_max(tf.concat([[0], tf.reshape(lengths, [-1])], axis=0))
    order = tf.argsort(tf.cast(~there, tf.int32), axis=-1, stable=True)[:, :, :longest]
    ids = tf.gather(tokens, order, batch_dims=2)
    return tf.where(tf.range(longest) < lengths[:, :, tf.newaxis], ids, fill), lengths
