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

    WER 0.33% on Test (1 substitution in 300 words) at step 3000 after 13 minutes, beside other
    work, of `trainer --model=asr.Fsdd --logdir=RUN --data_dir=DATA` in mixed_bfloat16, then
    `decoder --model=asr.Fsdd --logdir=RUN --data_dir=DATA --dataset=Test`, greedy;
    unit:words|case:mixed|punct:yes|space:single|jiwer:4.0.0; AMD EPYC, 2 threads. There is no Dev:
    with SpokenDigits' strides and normalization 2.33% were the best.
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
