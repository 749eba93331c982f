"""What the text of a flag may be: types for argparse, whose errors name them as they are called."""

from __future__ import annotations

import math
from typing import Callable, TypeVar

_T = TypeVar('_T')


def Checked(
    name: str, read: Callable[[str], _T], holds: Callable[[_T], bool]
) -> Callable[[str], _T]:
    """A `type=` of `add_argument`.

    Args:
      name: for the error: "argument -n: invalid int >= 1 value: '0'".
      read: makes the value of the text; raises ValueError if it cannot.
      holds: whether a value is taken.
    """

    def Read(text: str) -> _T:
        value = read(text)
        if not holds(value):
            raise ValueError
        return value

    Read.__name__ = name
    return Read


Natural = Checked('int >= 0', int, lambda value: value >= 0)
Count = Checked('int >= 1', int, lambda value: value >= 1)
Seconds = Checked('seconds >= 0', float, lambda value: 0 <= value < math.inf)
Positive = Checked('number > 0', float, lambda value: 0 < value < math.inf)
