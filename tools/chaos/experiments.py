"""A tiny experiment of each family, each with something that a restart has to bring back.

`WriteData` makes their data: tones for speech, as many as their transcript has digits.
"""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np

from lingvo_lite import experiment, inputs, layers, optim, registry, task
from lingvo_lite.inputs.speech import audio, manifests
from lingvo_lite.tasks.asr import ctc_model, deep_speech, model as las
from lingvo_lite.tasks.lm import input as lm_input, model as lm
from lingvo_lite.tasks.mt import model as mt

_WORDS = 'zero one two three four five six seven eight nine'.split()
_RATE = 8000
_COUNTS = {'train': 120, 'dev': 7}
_FOLDER = 'chaos'


def WriteData(folder: str) -> None:
    """Writes chaos/{train,dev}.{src,tgt,tsv} and audio into a data folder; always the same."""
    root = os.path.join(folder, _FOLDER)
    os.makedirs(root, exist_ok=True)
    for split, count in _COUNTS.items():
        draw = random.Random(split)
        numbers = [str(draw.randrange(10 ** draw.randint(1, 4))) for _ in range(count)]
        rows = []
        for n, number in enumerate(numbers):
            name = f'{split}-{n}.wav'
            wave = _Tones(number)
            with open(os.path.join(root, name), 'wb') as file:
                file.write(audio.EncodeWav(wave, _RATE))
            rows.append((f'{split}-{n}', name, _Spelt(number), len(wave), _RATE))
        columns = ('id', 'file', 'transcript', 'samples', 'sample_rate')
        manifests.Write(os.path.join(root, f'{split}.tsv'), rows, columns)
        for side, lines in (('src', numbers), ('tgt', map(_Spelt, numbers))):
            with open(os.path.join(root, f'{split}.{side}'), 'w', encoding='utf-8') as file:
                file.writelines(line + '\n' for line in lines)


def _Spelt(number: str) -> str:
    return ' '.join(_WORDS[int(digit)] for digit in number)


def _Tones(number: str) -> np.ndarray:
    """60 ms a digit."""
    hertz = np.repeat([300.0 + 300 * int(digit) for digit in number], _RATE * 60 // 1000)
    return (0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / _RATE)).astype(np.float32)


class _WithoutPictures(task.BaseTask):
    """Drawing what TensorBoard shows takes longer than all the rest."""

    Summaries = task.BaseTask.Summaries


class _CtcModel(_WithoutPictures, ctc_model.CtcModel):
    pass


class _LasModel(_WithoutPictures, las.AsrModel):
    pass


class _MtModel(_WithoutPictures, mt.TransformerModel):
    pass


class _Experiment(experiment.BaseExperiment):
    """What all have in common: moving averages, Adam, float32, dropout."""

    def Task(self) -> Any:
        p = self.Model()
        p.train.Set(learning_rate=0.01, optimizer=optim.Adam.Params())
        p.train.Set(ema_decay=0.9, precision='float32')
        return p

    def Tiny(self) -> Any:
        return self.Task()

    def Train(self) -> Any:
        return self.Input('train')

    def Dev(self) -> Any:
        return self.Input('dev')


class _Speech(_Experiment):
    def Frontend(self, p: Any) -> Any:
        p.frontend = layers.MelAsrFrontend.Params().Set(sample_rate=float(_RATE), num_bins=16)
        p.frontend.Set(lower_edge_hertz=100.0, upper_edge_hertz=3800.0)
        p.frontend.normalization = 'per_feature'
        p.spec_augment.Set(freq_mask_count=1, freq_mask_max_bins=3)
        return p

    def Input(self, split: str) -> Any:
        p = inputs.SpeechInput.Params().Set(manifest=f'{_FOLDER}/{split}.tsv', sample_rate=_RATE)
        p.tokenizer = inputs.WordTokenizer.Params().Set(words=_WORDS)
        if split == 'train':
            p.speeds = [0.9, 1.0, 1.1]
        return p.Set(tokens_per_batch=400)


@registry.Register
class Ctc(_Speech):
    """Batch norm and SpecAugment."""

    def Model(self) -> Any:
        p = _CtcModel.Params().Set(vocab_size=inputs.NUM_SPECIAL + len(_WORDS))
        p.encoder = deep_speech.DeepSpeechEncoder.Params().Set(
            conv_kernels=[(5, 5)],
            conv_strides=[(2, 2)],
            conv_channels=[4],
            hidden_dim=8,
            dropout_prob=0.1,
        )
        p.encoder.rnn.num_layers = 1
        p.encoder.rnn.cell = layers.GRUCell.Params().Set(cell_dim=8)
        return self.Frontend(p)


@registry.Register
class Las(_Speech):
    """A decoder that attends."""

    def Model(self) -> Any:
        p = _LasModel.Params()
        p.encoder.Set(
            input_shape=[None, None, 16, 1],
            conv_filter_shapes=[(3, 3, 1, 4), (3, 3, 4, 4)],
            num_conv_lstm_layers=0,
            num_lstm_layers=1,
            lstm_cell_size=8,
        )
        p.decoder.Set(vocab_size=inputs.NUM_SPECIAL + len(_WORDS), emb_dim=8)
        p.decoder.Set(rnn_cell_dim=16, source_dim=16, dropout_prob=0.1)
        p.decoder.attention.hidden_dim = 8
        p.search.Set(max_ratio=0.0, max_steps=6)
        return self.Frontend(p)


@registry.Register
class Lm(_Experiment):
    """Recurrent."""

    def Model(self) -> Any:
        p = lm.RnnLm.Params()
        p.vocab_size = inputs.NUM_SPECIAL + len(_WORDS)
        lm.Sizes(p, model_dim=8, num_layers=1, cell_dim=16)
        p.dropout.rate = 0.1
        return p

    def Input(self, split: str) -> Any:
        p = lm_input.LinesInput.Params().Set(file=f'{_FOLDER}/{split}.tgt')
        p.tokenizer = inputs.WordTokenizer.Params().Set(words=_WORDS)
        return p.Set(tokens_per_batch=100)


@registry.Register
class Mt(_Experiment):
    """A Transformer with beam search."""

    def Model(self) -> Any:
        p = _MtModel.Params().Set(vocab_size=264, model_dim=16)
        p.input_dropout.rate = 0.1
        for stack in (p.encoder, p.decoder):
            stack.Set(num_layers=1, num_heads=2, hidden_dim=32)
            stack.Set(residual_dropout_prob=0.1, atten_dropout_prob=0.1, relu_dropout_prob=0.1)
        p.search.Set(method='beam', beam_size=2, max_steps=30)
        return p

    def Input(self, split: str) -> Any:
        p = inputs.ParallelTextInput.Params()
        p.Set(source_file=f'{_FOLDER}/{split}.src', target_file=f'{_FOLDER}/{split}.tgt')
        return p.Set(tokens_per_batch=600)
