"""What a bench yields, and the table of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Optional

import numpy as np

_RESAMPLES = 4000


@dataclasses.dataclass(frozen=True)
class Result:
    """A line of the table.

    Attributes:
      name: of the bench and the variant.
      value: the ratio, or seconds if `unit` is 's'.
      low, high: the 95% interval of `value`.
      at_most, at_least: the target, if there is one.
      unit: '' or 's'.
      note: what the value is made of.
    """

    name: str
    value: float
    low: float
    high: float
    at_most: Optional[float] = None
    at_least: Optional[float] = None
    unit: str = ''
    note: str = ''

    @property
    def target(self) -> str:
        """'<= 1.03' and whether it is met; '' without a target."""
        if self.at_most is not None:
            met = self.value <= self.at_most
            return f'<= {self.at_most:g}{self.unit} {"yes" if met else "NO"}'
        if self.at_least is not None:
            met = self.value >= self.at_least
            return f'>= {self.at_least:g}{self.unit} {"yes" if met else "NO"}'
        return ''


def from_pairs(
    name: str,
    numerators: Sequence[float],
    denominators: Sequence[float],
    at_most: Optional[float] = None,
    at_least: Optional[float] = None,
    note: str = '',
) -> Result:
    """The median of the ratios of pairs, with the bootstrap's 95% interval.

    Args:
      name: of the result.
      numerators, denominators: equally many, measured side by side.
      at_most, at_least: the target.
      note: see Result.
    """
    ratios = np.asarray(numerators) / np.asarray(denominators)
    low, high = median_interval(ratios)
    value = float(np.median(ratios))
    return Result(name, value, low, high, at_most=at_most, at_least=at_least, note=note)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the median: percentiles of the medians of resamples (Efron, 1979)."""
    values = np.asarray(values)
    draws = np.random.RandomState(0).randint(len(values), size=[_RESAMPLES, len(values)])
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)


def table(results: Sequence[Result]) -> str:
    """Lines of text for people."""
    rows = [('bench', 'value', '95% interval', 'target', '')]
    for r in results:
        value, low, high = (f'{x:.3f}{r.unit}' for x in (r.value, r.low, r.high))
        rows.append((r.name, value, f'{low} to {high}', r.target, r.note))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
