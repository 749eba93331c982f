"""A few utterances of LibriSpeech as it is downloaded."""

from __future__ import annotations

from typing import Any

from lingvo_lite import experiment, inputs, layers, registry

from .. import ctc_model, input as asr_input
from . import librispeech, spoken_digits


@registry.Register
class LibrispeechMini(experiment.BaseExperiment):
    """Learns 30 utterances by heart: a proof of the plumbing, from FLAC to words.

    Data: librispeech-mini/ in the data folder, in LibriSpeech's layout. Scored on Train itself; Dev
    and Test show what so few utterances are worth.

    WER 0.18% on Train (1 substitution, 1 insertion in 1,098 words) at step 615 of
    `trainer --model=asr.LibrispeechMini --logdir=RUN --data_dir=DATA` in mixed_bfloat16, stopped
    there, then `decoder ... --dataset=Train`, greedy;
    unit:words|case:mixed|punct:yes|space:single|jiwer:4.0.0; AMD EPYC, 2 threads.
    """

    def Task(self) -> Any:
        p = ctc_model.CtcModel.Params().Set(vocab_size=librispeech.NUM_CHARACTERS)
        block = layers.DenseBlock.Params().Set(output_dim=192, kernel_size=9)
        p.encoder.blocks = [
            block.Copy().Set(stride=2),
            *[block.Copy().Set(num_repeats=2, residual='own')] * 3,
            block.Copy().Set(output_dim=384, kernel_size=1),
        ]
        p = spoken_digits.Train(p, max_steps=1200)
        p.train.learning_rate = 1e-3
        return p

    def Tiny(self) -> Any:
        p = self.Task()
        p.encoder.blocks = [block.Copy().Set(output_dim=16) for block in p.encoder.blocks]
        return p

    def Train(self) -> Any:
        return self._Input('train').Set(num_utterances=30, tokens_per_batch=15_000)

    def Dev(self) -> Any:
        return self._Input('dev')

    def Test(self) -> Any:
        return self._Input('test')

    def TestOther(self) -> Any:
        return self._Input('test_other')

    def _Input(self, split: str) -> Any:
        p = asr_input.LibrispeechMiniInput.Params().Set(split=split, tokens_per_batch=20_000)
        p.tokenizer = inputs.CharacterTokenizer.Params().Set(characters=librispeech.CHARACTERS)
        return p
