"""Sums over replicas, and how they travel: `task.train.communication`.

In float16 half as many bytes travel. A gradient g_r of replica r is sent as float16(f g_r), with

    f = 2^15 / sum_r max |g_r|

for each variable, so that no partial sum overflows (float16 ends at 65504) and as few entries as
possible fall below its smallest numbers. The maxima travel in float32, with the terms of the loss.
What comes back is divided by f, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_LARGEST = 2.0**15  # half of what float16 holds: room for rounding
_SMALLEST = 1e-30  # smaller maxima would make a factor that float32 does not hold


def Options(params: Any) -> tf.distribute.experimental.CommunicationOptions:
    """What tf.distribute calls hints.

    Args:
      params: `task.train.communication`.
    """
    return tf.distribute.experimental.CommunicationOptions(
        bytes_per_pack=params.bytes_per_pack,
        timeout_seconds=params.timeout_seconds or None,
        implementation='auto' if params.implementation == 'default' else params.implementation,
    )


def Sum(values: Sequence[tf.Tensor], options: Any) -> list[tf.Tensor]:
    """Each of the tensors summed over all replicas, in one all-reduce. Called on a replica.

    Args:
      values: tensors of one dtype.
      options: from `Options`.
    """
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return list(values)
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, list(values), options=options)


def SumAsFloat16(
    gradients: Sequence[tf.Tensor], own: tf.Tensor, options: Any
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """As `Sum([*gradients, own])`, but gradients travel in float16; one replica sends nothing.

    Args:
      gradients: float32. One that is not finite comes back not finite, on all replicas.
      own: float32 vector that travels as it is.
      options: from `Options`.

    Returns:
      The sums of the gradients, float32, and that of `own`.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return list(gradients), own
    maxima = tf.stack([tf.reduce_max(tf.abs(gradient)) for gradient in gradients])
    # [gradients + own]
    (exact,) = Sum([tf.concat([maxima, own], axis=0)], options)
    factors = tf.unstack(Factors(exact[: len(gradients)]))
    sent = [tf.cast(g * factor, tf.float16) for g, factor in zip(gradients, factors)]
    summed = Sum(sent, options)
    found = [tf.cast(value, tf.float32) / factor for value, factor in zip(summed, factors)]
    return found, exact[len(gradients) :]


def Factors(largest: tf.Tensor) -> tf.Tensor:
    """What gradients are multiplied with before they become float16.

    Args:
      largest: float32 [gradients], sums of the largest absolute entries of all replicas.

    Returns:
      float32 [gradients], finite; 1 where `largest` is not.
    """
    found = _LARGEST / tf.maximum(largest, _SMALLEST)
    return tf.where(tf.math.is_finite(largest), found, tf.ones_like(largest))
