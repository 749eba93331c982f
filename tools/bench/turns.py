"""Times functions in turn, so that what else happens on the machine hits all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def in_turn(
    functions: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2
) -> dict[str, np.ndarray]:
    """Calls each function once a round, in alternating order.

    Args:
      functions: {name: function}. A call ends when its work is done.
      rounds: number of calls of each that count.
      warm_up: number of calls of each that do not, before.

    Returns:
      {name: seconds of each call, float64 [rounds]}.
    """
    names = list(functions)
    for _ in range(warm_up):
        for name in names:
            functions[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                begin = time.perf_counter()
                functions[name]()
                seconds[name].append(time.perf_counter() - begin)
    finally:
        gc.enable()
    return {name: np.array(taken) for name, taken in seconds.items()}
