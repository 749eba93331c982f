"""One answer of all replicas whether a step updates anything, and the update of all optimizers.

The question is asked in cross-replica context, between two strategy.run, about values that are the
same on all replicas. So no replica can skip a step that another takes, and none can wait in a
collective for one that has skipped.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Callable, Optional

import tensorflow as tf

from lingvo_lite.optim.optimizers import base_optimizer


def ApplyIfFinite(
    strategy: tf.distribute.Strategy,
    optimizers: Sequence[base_optimizer.BaseOptimizer],
    gradients: Any,
    learning_rates: Sequence[tf.Tensor],
    checked: Sequence[tf.Tensor],
    trying: Optional[tf.Tensor] = None,
    also: Optional[Callable[[], None]] = None,
    instead: Optional[Callable[[], None]] = None,
) -> tf.Tensor:
    """One update of all optimizers, or none of any.

    Args:
      strategy: that the optimizers were built under.
      optimizers: with variables of their own each.
      gradients: the per-replica value of {path: float32 tensor}, of all variables, the same on all
        replicas.
      learning_rates: float32 scalars, one for each optimizer.
      checked: float scalars, the same for all replicas, one of which is not finite if something
        is not: the norm of the gradients, the loss.
      trying: bool scalar, whether nothing is to be updated in any case; None for False.
      also: called in the graph of a step that updates.
      instead: called in the graph of a step that does not.

    Returns:
      bool scalar, whether all that was checked is finite.
    """
    finite = functools.reduce(tf.logical_and, [tf.math.is_finite(value) for value in checked])

    def OnReplica(gradients: dict[str, tf.Tensor], rates: Sequence[tf.Tensor]) -> None:
        for optimizer, rate in zip(optimizers, rates):
            optimizer.Apply({path: gradients[path] for path in optimizer.variables}, rate)

    def Update() -> tf.Tensor:
        strategy.run(OnReplica, args=(gradients, learning_rates))
        if also is not None:
            also()
        return tf.constant(True)

    def Skip() -> tf.Tensor:
        if instead is not None:
            instead()
        return tf.constant(False)

    tf.cond(finite if trying is None else finite & ~trying, Update, Skip)
    return finite
