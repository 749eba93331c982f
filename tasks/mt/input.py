"""Inputs that make their data at first use."""

from __future__ import annotations

import os

from lingvo_lite import hyperparams, inputs

from . import numbers

# Relative to the data folder; the cache folder is searched like one.
NUMBERS = 'generated/numbers_en_de_v1'


class NumbersInput(inputs.ParallelTextInput):
    """Number words, written into the cache folder when the input is first built."""

    def __init__(self, params: hyperparams.Params):
        numbers.Write(os.path.join(inputs.CacheDir(), NUMBERS))
        super().__init__(params)
