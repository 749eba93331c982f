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
        p = spoken_digits.SpokenDigits().Task()
        # Words of 0.14 seconds: 14 frames, and no mean over time without what was said.
        p.frontend.normalization = 'per_utterance'
        p.encoder.conv_strides = [(2, 2), (1, 2), (1, 1)]
        return spoken_digits.Train(p, max_steps=3000)

    def Tiny(self) -> Any:
        return spoken_digits.Shrink(self.Task())

    def Train(self) -> Any:
        return spoken_digits.Perturb(self._Input('train'))

    def Test(self) -> Any:
        return self._Input('test')

    def _Input(self, split: str) -> Any:
        return spoken_digits.Digits(asr_input.FsddInput.Params().Set(split=split))
