"""Inputs that make their data at first use."""

from __future__ import annotations

import os
from typing import Any

from lingvo_lite.inputs import cache
from lingvo_lite.inputs.text import parallel

from . import numbers

# Relative to the data folder; the cache folder is searched like one.
NUMBERS = 'generated/numbers_en_de_v1'


class NumbersInput(parallel.ParallelTextInput):
    """Number words, written into the cache folder when the input is first built."""

    def __init__(self, params: Any):
        numbers.Write(os.path.join(cache.CacheDir(), NUMBERS))
        super().__init__(params)
