"""Weighted means, and what follows from the mean of a log-probability."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Union

from lingvo_lite.metrics import base

if TYPE_CHECKING:
    from typing_extensions import Self

_LARGEST_EXPONENT = 700.0  # exp() of more does not fit into a float.


class Mean(base.BaseMetric):
    """sum_i(value_i * weight_i) / sum_i(weight_i), in double precision."""

    def __init__(self, name: str):
        super().__init__(name)
        self._total = 0.0
        self._weight = 0.0

    def Update(self, value: float, weight: float = 1.0) -> None:
        """Adds a value that stands for `weight` items.

        Args:
          value: a mean over these items. Not looked at if there are none.
          weight: their number or the sum of their weights, at least 0.

        Raises:
          ValueError: if the weight is negative or not finite.
        """
        value, weight = float(value), float(weight)
        if not 0.0 <= weight < math.inf:
            raise ValueError(
                f'{self.name}: a weight must be finite and at least 0, got {weight:g} (value '
                f'{value:g}).'
            )
        if weight:
            self._total += value * weight
            self._weight += weight

    @property
    def value(self) -> float:
        if not self._weight:
            raise self._Empty()
        return self._total / self._weight

    @property
    def weight(self) -> float:
        """The sum of the weights."""
        return self._weight

    def Merge(self, other: Self) -> None:
        self._CheckMergeable(other)
        self._total += other._total
        self._weight += other._weight

    def Summary(self) -> dict[str, Union[float, str]]:
        return {self.name: self.value} if self._weight else {}


class LogPerplexity(Mean):
    """The mean negative log-probability of a token, in nats, and the perplexity exp(mean).

    Summary: NAME and NAME with 'log_pplx' replaced by 'pplx' (else NAME/pplx).
    """

    larger_is_better = False

    def __init__(self, name: str = 'log_pplx'):
        super().__init__(name)

    @property
    def perplexity(self) -> float:
        """exp(value), at most exp(700)."""
        return math.exp(min(self.value, _LARGEST_EXPONENT))

    def Summary(self) -> dict[str, Union[float, str]]:
        if not self._weight:
            return {}
        derived = self.name.replace('log_pplx', 'pplx')
        if derived == self.name:
            derived = f'{self.name}/pplx'
        return {self.name: self.value, derived: self.perplexity}
