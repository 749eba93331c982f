"""What a training step did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from lingvo_lite.nested_map import NestedMap

_WHOLE = ('step', 'updates', 'skipped', 'skipped_in_a_row', 'overflows_at_floor')


class StepResult:
    """The numbers of a step, on the device until they are read.

    Args:
      names: dotted, of each number.
      values: float64 [names].
    """

    def __init__(self, names: Sequence[str], values: tf.Tensor):
        self._names = names
        self._values = values
        self._read: Optional[NestedMap] = None

    def Read(self) -> NestedMap:
        """The numbers, as Python floats unless another type is named; waits for the step.

        Returns:
          loss: sum over terms of loss weight * mean. Without regularization.
          terms: {name: mean}. weights: {name: weight over the global batch}, tokens say.
          metrics: {name: (mean, weight)} of ComputeLoss's metrics.
          grad_norm: before clipping. With several losses: of all of them together.
          learning_rate: of this update; a NestedMap by name with several learners.
          regularization: only with L1 or L2.
          loss_scale: that of this step; only in float16.
          overflows_at_floor: int, overflows in a row at the smallest scale; only in float16.
          finite: bool, whether the update was applied.
          step, updates, skipped, skipped_in_a_row: int, this step included.
        """
        if self._read is None:
            self._read = _Named(dict(zip(self._names, self._values.numpy().tolist())))
        return self._read


def _Named(numbers: dict[str, float]) -> NestedMap:
    result = NestedMap(terms=NestedMap(), weights=NestedMap(), metrics=NestedMap())
    for name, value in numbers.items():
        first, *rest = name.split('.')
        if name.endswith('.sum') and first in ('terms', 'metrics'):
            weight = numbers[f'{first}.{rest[0]}.weight']
            mean = value / weight if weight else 0.0
            if first == 'terms':
                result.terms[rest[0]] = mean
                result.weights[rest[0]] = weight
            else:
                result.metrics[rest[0]] = (mean, weight)
        elif first == 'learning_rate' and rest:
            result.setdefault(first, NestedMap())[rest[0]] = value
        elif not rest:
            result[name] = int(value) if name in _WHOLE else value
    result.finite = bool(result.finite)
    return result
