"""Free Spoken Digit Dataset."""

from __future__ import annotations

from typing import Any

from lingvo_lite import registry

from .. import input as asr_input
from . import spoken_digits


@registry.Register
class Fsdd(spoken_digits.SpokenDigits):
    """Single digits said by six people, asr.SpokenDigits' network.

    Data: fsdd/ in the data folder, a clone of github.com/Jakobovski/free-spoken-digit-dataset; its
    official split, in which all six people are in Train and in Test.
    """

    def Task(self) -> Any:
        return spoken_digits.Train(super().Task(), max_steps=1500)

    def _Input(self, split: str) -> Any:
        return spoken_digits.Digits(asr_input.FsddInput.Params().Set(split=split))
