"""LossScaleOptimizer: what trains under mixed_float16.

It does what keras.mixed_precision.LossScaleOptimizer does, and calls it by the same names. It takes
the place of that class and is not built on it, because Keras' (measured, Keras 3.15, TensorFlow
2.16):

- looks at each replica's own gradients, so that one worker's overflow leaves the others waiting in
  the next all-reduce for good; here all replicas have one answer (`joint_update`);
- goes over all gradients twice more, to divide and to check, and makes a step of 354 ms one of 374;
- holds one optimizer, where a task may have several that share one backward pass, hence one scale;
- has no floor, no ceiling and no log-max (`loss_scale`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import tensorflow as tf

from lingvo_lite.optim import clipping, joint_update
from lingvo_lite.optim.loss_scale import LossScale
from lingvo_lite.optim.optimizers.base_optimizer import BaseOptimizer


class LossScaleOptimizer:
    """Optimizers that are given gradients of a scaled loss.

        optimizer = LossScaleOptimizer([adam], train.loss_scale.Instantiate())
        with strategy.scope():
            optimizer.build([variables])

        # on each replica
        with tf.GradientTape() as tape:
            scaled = optimizer.scale_loss(loss)
        gradients = optimizer.unscale_gradients(dict(zip(variables, tape.gradient(...))))
        # summed over replicas, clipped, `norm` taken; then in cross-replica context
        finite = optimizer.apply(gradients, [learning_rate], checked=[norm, loss])

    The step in between is training/learner.py. Methods have Keras' names, `build` to `apply`;
    what Keras' class does inside of `apply`, dividing and looking, is the caller's here, who has
    to go over the gradients anyway.

    Args:
      inner_optimizers: not built yet.
      loss_scale: how the scale follows what happens.

    Attributes:
      inner_optimizers, loss_scale: as given.
    """

    def __init__(self, inner_optimizers: Sequence[BaseOptimizer], loss_scale: LossScale):
        self.inner_optimizers = list(inner_optimizers)
        self.loss_scale = loss_scale
        self._strategy: Any = None

    def build(self, variables: Sequence[Mapping[str, tf.Variable]]) -> None:
        """Creates the slots and the state of the scale. Called once, in the strategy's scope.

        Args:
          variables: {path: float32 variable} for each inner optimizer.

        Raises:
          ValueError, RuntimeError: see `BaseOptimizer.Build`.
        """
        self._strategy = tf.distribute.get_strategy()
        for optimizer, each in zip(self.inner_optimizers, variables):
            optimizer.Build(each)
        self.loss_scale.Build()

    @property
    def initial_scale(self) -> float:
        """The scale of the first step, and of all with method=static; 1.0 with method=none."""
        p = self.loss_scale.params
        return 1.0 if p.method == 'none' else p.initial_scale

    @property
    def dynamic_scale(self) -> Any:
        """The scale of the next step: float32 scalar, a variable where it can change."""
        return self.loss_scale.scale

    @property
    def dynamic_growth_steps(self) -> int:
        """Steps without an overflow after which the scale grows, with method=backoff."""
        return self.loss_scale.params.growth_steps

    def scale_loss(self, loss: tf.Tensor, scale: Optional[tf.Tensor] = None) -> tf.Tensor:
        """loss * scale.

        Args:
          loss: float32 scalar.
          scale: float32 scalar, that of the step; None for `dynamic_scale`.
        """
        return loss * (self.dynamic_scale if scale is None else scale)

    def unscale_gradients(
        self,
        gradients: Mapping[str, Optional[tf.Tensor]],
        scale: Optional[tf.Tensor] = None,
        weight: Optional[tf.Tensor] = None,
    ) -> dict[str, Optional[tf.Tensor]]:
        """g / scale / weight for every gradient g, in one pass; a None stays None.

        Args:
          gradients: {path: float32 tensor or None}, of a scaled loss.
          scale: that the loss was scaled by; None for `dynamic_scale`.
          weight: float32 scalar, by which a sum becomes a mean, 0 over 0 being 0; None for 1.
        """
        factor = 1.0 / (self.dynamic_scale if scale is None else scale)
        if weight is not None:
            factor = tf.math.divide_no_nan(factor, weight)
        return clipping.Times(gradients, factor)

    def apply(
        self,
        gradients: Any,
        learning_rates: Sequence[tf.Tensor],
        checked: Sequence[tf.Tensor],
        max_gradient: Optional[tf.Tensor] = None,
        trying: Optional[tf.Tensor] = None,
        also: Optional[Callable[[], None]] = None,
        instead: Optional[Callable[[], None]] = None,
    ) -> tf.Tensor:
        """One update of all variables if all is finite, none if not; then the scale follows.

        Called in every step, in cross-replica context.

        Args:
          gradients, learning_rates, checked, also, instead: see `joint_update.ApplyIfFinite`.
          max_gradient: float32 scalar, the largest absolute value of the unscaled gradients summed
            over replicas, before they were clipped; for method=logmax.
          trying: bool scalar, whether variables and scale are to stay in any case; None for False.

        Returns:
          bool scalar, whether all is finite.

        Raises:
          RuntimeError: if it is called before `build`.
          ValueError: if max_gradient is missing and needed.
        """
        if self._strategy is None:
            raise RuntimeError('LossScaleOptimizer.build must be called before apply.')
        finite = joint_update.ApplyIfFinite(
            self._strategy,
            self.inner_optimizers,
            gradients,
            learning_rates,
            checked,
            trying,
            also,
            instead,
        )
        self.loss_scale.Update(finite, max_gradient, keep=trying)
        return finite
