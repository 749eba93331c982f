"""Exponential moving averages of variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def Decay(decay: float, updates: tf.Tensor) -> tf.Tensor:
    """min(decay, (1 + n) / (10 + n)): after few updates the average follows faster.

    Args:
      decay: in the long run, e.g. 0.9999.
      updates: int64 scalar, n: the updates so far, the present one included.

    Returns:
      float32 scalar. As tf.train.ExponentialMovingAverage with num_updates.
    """
    n = tf.cast(updates, tf.float32)
    return tf.minimum(tf.constant(decay, tf.float32), (1.0 + n) / (10.0 + n))


class Ema:
    """A shadow s of each variable v: s <- d s + (1 - d) v after each update, d from `Decay`.

    Args:
      strategy: the shadows are created in its scope, one copy beside each copy of the variable.
      variables: {path: float32 variable}. A shadow starts as the present value of its variable.
      decay: d in the long run, 0 < decay < 1.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        variables: Mapping[str, tf.Variable],
        decay: float,
    ):
        self._strategy = strategy
        self._variables = dict(variables)
        self._decay = decay
        self._shadows: dict[str, tf.Variable] = {}
        for path, variable in self._variables.items():
            with strategy.scope(), strategy.extended.colocate_vars_with(variable):
                self._shadows[path] = tf.Variable(
                    variable.read_value(),
                    trainable=False,
                    name=f'{path.replace("/", "_")}_ema',
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )

    def Update(self, updates: tf.Tensor) -> None:
        """Moves every shadow towards its variable. Called in cross-replica context.

        Args:
          updates: int64 scalar, the updates so far, the present one included.
        """
        rate = 1.0 - Decay(self._decay, updates)

        def Move(shadow: tf.Variable, variable: Any, rate: tf.Tensor) -> Any:
            return shadow.assign_sub(rate * (shadow - variable), read_value=False)

        for path, shadow in self._shadows.items():
            self._strategy.extended.update(shadow, Move, args=(self._variables[path], rate))

    def Variables(self) -> dict[str, tf.Variable]:
        """{path: shadow}."""
        return dict(self._shadows)

    def Substitutes(self) -> dict[Any, tf.Variable]:
        """{variable.ref(): shadow}, for step.Context."""
        return {v.ref(): self._shadows[path] for path, v in self._variables.items()}
