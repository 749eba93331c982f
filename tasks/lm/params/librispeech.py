"""Language models for LibriSpeech."""

from __future__ import annotations

from typing import Any

from lingvo_lite import experiment, inputs, registry
from lingvo_lite.optim import schedules

from .. import input as lm_input, model

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
CORPUS = 'librispeech/librispeech-lm-norm.txt'


@registry.Register
class LibrispeechChar(experiment.BaseExperiment):
    """Two LSTM layers over characters, for shallow fusion with models that write graphemes.

    Data: the 803 million words of librispeech-lm-norm.txt.gz (openslr.org/11, Panayotov et al.,
    2015), one line a sentence; evaluated on the transcripts that tools/prepare_librispeech.py
    writes. Sizes are ours, nothing is published for them. Not trained here.
    """

    def Task(self) -> Any:
        p = model.RnnLm.Params()
        p.vocab_size = inputs.NUM_SPECIAL + len(CHARACTERS)
        model.Sizes(p, model_dim=64, num_layers=2, cell_dim=1024)
        p.dropout.rate = 0.1
        p.rnn.dropout_prob = 0.1
        p.train.learning_rate = 1e-3
        p.train.lr_schedule = schedules.ContinuousLearningRateSchedule.Params().Set(
            start_step=50_000, half_life_steps=50_000, min=0.01
        )
        p.train.clip_gradient_norm_to_value = 1.0
        p.train.max_steps = 400_000
        return p

    def Tiny(self) -> Any:
        return model.Sizes(self.Task(), model_dim=8, num_layers=2, cell_dim=16)

    def Train(self) -> Any:
        p = self._Input(CORPUS, f'wget https://www.openslr.org/resources/11/{_Name(CORPUS)}.gz')
        return p.Set(tokens_per_batch=32_768, target_max_length=512)

    def Dev(self) -> Any:
        return self._Transcripts('dev-clean')

    def DevOther(self) -> Any:
        return self._Transcripts('dev-other')

    def Test(self) -> Any:
        return self._Transcripts('test-clean')

    def TestOther(self) -> Any:
        return self._Transcripts('test-other')

    def _Transcripts(self, split: str) -> Any:
        return self._Input(f'librispeech/{split}.txt', 'tools/prepare_librispeech.py')

    def _Input(self, file: str, prepared_by: str) -> Any:
        p = lm_input.LinesInput.Params()
        p.Set(file=file, prepared_by=prepared_by, lower_case=True, tokens_per_batch=16_384)
        p.tokenizer = inputs.CharacterTokenizer.Params().Set(characters=CHARACTERS)
        return p


def _Name(path: str) -> str:
    return path.rpartition('/')[2]
