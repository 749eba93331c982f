"""Bounds on gradients. All functions take and return {path: float32 tensor}.

A None stands for a variable without a gradient and stays None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import tensorflow as tf

Gradients = Mapping[str, Optional[tf.Tensor]]


def GlobalNorm(grads: Gradients) -> tf.Tensor:
    """sqrt(sum of the squares of all entries of all gradients).

    It answers "is everything finite?" too: a sum of squares is inf or nan if one entry is. (It is
    also inf when entries beyond 1e19 are squared; a step with such gradients had better be skipped
    all the same.)

    Returns:
      float32 scalar, 0 if there is no gradient.
    """
    present = [grad for grad in grads.values() if grad is not None]
    if not present:
        return tf.zeros([], tf.float32)
    # l2_loss is sum(x^2) / 2 in one pass over memory.
    halves = [tf.nn.l2_loss(grad) for grad in present]
    return tf.sqrt(2.0 * tf.add_n(halves))


def Times(grads: Gradients, factor: tf.Tensor) -> dict[str, Optional[tf.Tensor]]:
    """g * factor for every gradient g."""
    return {path: None if g is None else g * factor for path, g in grads.items()}


def ClipByGlobalNorm(
    grads: Gradients, max_norm: float, norm: Optional[tf.Tensor] = None
) -> tuple[dict[str, Optional[tf.Tensor]], tf.Tensor]:
    """g * min(1, max_norm / norm) for every gradient g, where norm is that of all together.

    If the norm is not finite the gradients come back as they are: scaled by 0 they would look
    finite and be wrong.

    Args:
      grads: {path: float32 tensor or None}.
      max_norm: greater than 0.
      norm: `GlobalNorm(grads)` if the caller has it already, which saves a pass over them.

    Returns:
      The clipped gradients and the norm before clipping, float32 scalar.

    Raises:
      ValueError: if max_norm is not greater than 0.

    Source: Pascanu et al., 2013 (arXiv 1211.5063), algorithm 1.
    """
    if not max_norm > 0:
        raise ValueError(f'max_norm must be greater than 0, got {max_norm}.')
    if norm is None:
        norm = GlobalNorm(grads)
    factor = max_norm / tf.maximum(norm, max_norm)
    factor = tf.where(tf.math.is_finite(norm), factor, 1.0)
    return Times(grads, factor), norm


def ClipByValue(grads: Gradients, max_abs: float) -> dict[str, Optional[tf.Tensor]]:
    """min(max(g, -max_abs), max_abs) for every entry g.

    An inf becomes max_abs: ask whether all is finite before.

    Args:
      grads: {path: float32 tensor or None}.
      max_abs: greater than 0.

    Raises:
      ValueError: if max_abs is not greater than 0.
    """
    if not max_abs > 0:
        raise ValueError(f'max_abs must be greater than 0, got {max_abs}.')
    return {
        path: None if g is None else tf.clip_by_value(g, -max_abs, max_abs)
        for path, g in grads.items()
    }


def MaxAbs(grads: Gradients) -> tf.Tensor:
    """The largest absolute value of all entries; float32 scalar, 0 if there is no gradient."""
    present = [grad for grad in grads.values() if grad is not None]
    if not present:
        return tf.zeros([], tf.float32)
    return tf.reduce_max([tf.reduce_max(tf.abs(grad)) for grad in present])
