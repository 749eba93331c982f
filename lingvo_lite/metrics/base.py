"""What a metric is."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Optional, Union

if TYPE_CHECKING:
    from typing_extensions import Self


class BaseMetric(abc.ABC):
    """A number about a dataset, collected bit by bit.

    A metric keeps what it takes to compute its value exactly (sums, counts, strings), never
    values to be averaged again: merged metrics give what one metric would have that saw everything.

    Attributes:
      name: what it is called in summaries and in metrics.jsonl.
      larger_is_better: which of two values is the better one; None if nobody has said.
    """

    larger_is_better: Optional[bool] = None

    def __init__(self, name: str):
        self.name = name

    @abc.abstractmethod
    def Update(self, *args: Any, **kwargs: Any) -> Any:
        """Adds what was seen."""

    @property
    @abc.abstractmethod
    def value(self) -> float:
        """The number. Raises ValueError as long as nothing was added."""

    @abc.abstractmethod
    def Merge(self, other: Self) -> None:
        """Adds what another metric of the same kind has collected, which stays as it is."""

    @abc.abstractmethod
    def Summary(self) -> dict[str, Union[float, str]]:
        """All there is to report, by name, as JSON has it. Empty as long as nothing was added."""

    def _CheckMergeable(self, other: BaseMetric) -> None:
        if type(other) is not type(self):
            raise TypeError(
                f'{type(self).__name__} {self.name!r} cannot take in a {type(other).__name__}: '
                'metrics are merged with their own kind.'
            )

    def _Empty(self) -> ValueError:
        return ValueError(
            f'{type(self).__name__} {self.name!r} has no value: nothing was added to it. '
            'Is the dataset empty?'
        )
