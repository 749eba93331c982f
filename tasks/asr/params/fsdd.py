"""Free Spoken Digit Dataset."""

from __future__ import annotations

from typing import Any

from lingvo_lite import experiment, registry

from .. import input as asr_input
from . import spoken_digits


@registry.Register
class Fsdd(experiment.BaseExperiment):
    """Single digits said by six people, asr.SpokenDigits' network.

    Data: fsdd/ in the data folder, a clone of github.com/Jakobovski/free-spoken-digit-dataset; its
    official split, in which all six people are in Train and in Test.
    """

    def Task(self) -> Any:
        return spoken_digits.Train(spoken_digits.SpokenDigits().Task(), max_steps=1500)

    def Tiny(self) -> Any:
        return spoken_digits.Shrink(self.Task())

    def Train(self) -> Any:
        return spoken_digits.Perturb(self._Input('train'))

    def Test(self) -> Any:
        return self._Input('test')

    def _Input(self, split: str) -> Any:
        return spoken_digits.Digits(asr_input.FsddInput.Params().Set(split=split))
