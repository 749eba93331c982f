"""Speech input: utterances with transcripts.

Fields of a batch, for b rows, n samples and t target tokens, padding included:

    source.waveform      float32 [b, n]   in [-1, 1] at params.sample_rate, 0.0 behind the end
    source.num_samples   int32 [b]        0 in fill rows
    target.ids           int32 [b, t]     <s> tokens
    target.labels        int32 [b, t]     tokens </s>
    target.paddings      float32 [b, t]   1.0 where there is no token
    target.weights       float32 [b, t]   1 - paddings
    id, row_weight                        see pipeline.BaseInput

Lengths are counted in frames of 10 ms, and so is the budget tokens_per_batch: rows x padded frames.
Transcripts take no part in it; they are padded to the longest of their rows, up to a multiple of 8.
"""

from __future__ import annotations

import dataclasses
import fractions
import unicodedata
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from lingvo_lite import hyperparams, nested_map
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import cache, data_files, order, source
from lingvo_lite.inputs.speech import files, perturbation, utterances, waveform_input
from lingvo_lite.inputs.text import token_arrays, token_table

# Callers find what reads speech in one place.
SpeechFilesInput = files.SpeechFilesInput
FindAudioFiles = files.FindAudioFiles
CheckPaths = files.CheckPaths


class SpeechInput(waveform_input.WaveformInput):
    """Utterances with transcripts, from TFRecord files or from a manifest of audio files.

    Utterances without a transcript are not trained on; in evaluation they are kept, so that scores
    cover the whole test set. Both are counted in the log.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define(
            'file_pattern',
            '',
            'TFRecord files of utterances, relative to the data folder: '
            "'librispeech/train-*.tfrecord'. Several patterns are separated by commas.",
        )
        p.Define(
            'manifest',
            '',
            'Instead of file_pattern: a manifest (inputs/speech/manifests.py), relative to the '
            'data folder.',
        )
        p.Define('prepared_by', '', 'The command that makes the files, for the error without them.')
        p.Define(
            'source_max_length',
            None,
            'Longest utterance that is trained on, in frames of 10 ms, at its own speed. '
            'Evaluation takes any.',
            type=int,
        )
        p.Define(
            'target_max_length',
            None,
            'Longest transcript that is trained on, in tokens with </s>. Evaluation takes any.',
            type=int,
        )
        p.Define('lower_case', True, 'Whether transcripts are brought to lower case.')
        p.Define(
            'characters',
            '',
            'The characters that are left in transcripts; all others become a space, and several '
            "spaces one. Empty: those of the tokenizer's params, if it lists any, else all.",
        )
        p.Define(
            'speeds',
            [1.0],
            'Speed perturbation: in each epoch each utterance is trained on at one of these '
            'speeds, usually [0.9, 1.0, 1.1].',
        )
        p.Define(
            'noise_decibels',
            [],
            'White noise is added to what is trained on, its signal-to-noise ratio drawn from '
            '[lowest, highest]. Empty: none.',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if values do not fit."""
        super().Check(p)
        cls._CheckFiles(p)
        hyperparams.RequireRange(p, 'source_max_length', at_least=1)
        hyperparams.RequireRange(p, 'target_max_length', at_least=2, note='a token and </s>')
        hyperparams.Require(p, bool(p.speeds), 'speeds', 'one number or more, such as [1.0]')
        hyperparams.RequireRange(p, 'speeds', at_least=0.1, at_most=10)
        noise = p.noise_decibels
        fits = not noise or (len(noise) == 2 and noise[0] <= noise[1])
        hyperparams.Require(p, fits, 'noise_decibels', '[] or [lowest, highest]')

    @classmethod
    def _CheckFiles(cls, p: hyperparams.Params) -> None:
        if bool(p.file_pattern) == bool(p.manifest):
            raise hyperparams.Fail(p, 'set either file_pattern or manifest.')

    def __init__(
        self,
        params: hyperparams.Params,
        held: Optional[utterances.Utterances] = None,
    ):
        """Opens the files, unless the utterances are given."""
        super().__init__(params, self._Open(params) if held is None else held)
        listed = params.tokenizer.characters if 'characters' in params.tokenizer else ''
        self._characters = frozenset(params.characters or listed)
        self._tokens: Optional[np.ndarray] = None

    @staticmethod
    def _Open(p: hyperparams.Params) -> utterances.Utterances:
        if p.file_pattern:
            paths = data_files.FindDataFiles(p.file_pattern, p.prepared_by)
            return utterances.RecordUtterances(paths)
        return utterances.ManifestUtterances(data_files.FindData(p.manifest, p.prepared_by))

    def _NumSpeeds(self) -> int:
        return len(self.params.speeds)

    def Strings(self, index: int) -> nested_map.NestedMap:
        """`source`, the id of an utterance, and `target`, its transcript as it is trained on.

        Raises:
          IndexError: if there is no such utterance; -1, a fill row, is none.
        """
        name, transcript = self._Text(index)
        return nested_map.NestedMap(source=name, target=self.Normalize(transcript))

    def Normalize(self, transcript: str) -> str:
        """A transcript as models see it.

        'Mr. Brown--aged 40' -> 'mr brown aged', with the characters a to z and space
        """
        text = unicodedata.normalize('NFC', transcript)
        if self.params.lower_case:
            text = text.lower()
        if self._characters:
            text = ''.join(c if c in self._characters else ' ' for c in text)
        return ' '.join(text.split())

    def _Usable(self, train: bool) -> np.ndarray:
        usable = super()._Usable(train)
        empty = usable & (self._held.characters == 0)
        self._WarnOfEmpty(empty, 'utterances have an empty transcript', train)
        if not train:
            return usable
        usable &= ~empty
        p = self.params
        if p.source_max_length is not None:
            usable &= self._AtMost(
                p.source_max_length, self._Lengths(False)[:, 0], 'source is', usable
            )
        if p.target_max_length is not None:
            tokens = self._TokenCounts() + 1
            usable &= self._AtMost(p.target_max_length, tokens, 'transcript is', usable)
        return usable

    def _AtMost(self, most: int, sizes: np.ndarray, what: str, usable: np.ndarray) -> np.ndarray:
        """[utterances] bool; a warning says what is left out."""
        self._Warn(usable & (sizes > most), sizes, what, most)
        return sizes <= most

    def _TokenCounts(self) -> np.ndarray:
        """[utterances] tokens of the transcripts, which are all read for it, once."""
        if self._tokens is None:
            text = cache.Key(
                self._held.Fingerprint(), self.params.lower_case, sorted(self._characters)
            )
            self._tokens = token_table.Build(
                len(self._held),
                1,
                lambda index: (self.Normalize(self._held.Text(index)[1]),),
                self.tokenizer,
                False,
                self.params.num_batcher_threads,
                text,
            ).counts[:, 0]
        return self._tokens

    def _Lengths(self, train: bool) -> np.ndarray:
        """In training at the slowest speed, so that the budget holds whatever is drawn."""
        if not train:
            return super()._Lengths(train)
        slowest = min(perturbation.AsFraction(speed) for speed in self.params.speeds)
        ids = np.arange(len(self._held))
        return self._Frames(self._Samples(ids, slowest))[:, None]

    def _Speed(self, index: int, plan: order.PlannedBatch, train: bool) -> fractions.Fraction:
        if not train:
            return fractions.Fraction(1)
        p = self.params
        return perturbation.Speed(p.speeds, p.random_seed, plan.source_epoch, int(index))

    def MakeRows(
        self, ids: Sequence[int], plan: order.PlannedBatch, train: bool
    ) -> nested_map.NestedMap:
        """Pads to the longest of the whole batch at the speeds that were drawn."""
        if train and len(self.params.speeds) > 1:
            samples = [
                self._Samples(np.array([i]), self._Speed(i, plan, train))[0] for i in plan.ids
            ]
            frames = order.PaddedLengths(
                self._Frames(np.array(samples)).max(), self.params.bucket_upper_bound
            )
            plan = dataclasses.replace(plan, padded=(int(frames),))
        return super().MakeRows(ids, plan, train)

    def _Load(self, ids: Sequence[int], plan: order.PlannedBatch, train: bool) -> list[Any]:
        """For each utterance its waveform and tokens."""
        p = self.params
        waves: dict[int, np.ndarray] = {}
        texts: dict[int, str] = {}
        for i in ids:
            try:
                wave, transcript = self._Read(i, self._Speed(i, plan, train))
            except source.BadRecordError as error:
                self._NoteBad(i, error)
                continue
            if train and p.noise_decibels:
                draw = (p.random_seed, plan.source_epoch, i)
                wave = perturbation.AddNoise(wave, p.noise_decibels, *draw)
            waves[i], texts[i] = wave, self.Normalize(transcript)
        tokens = dict(zip(texts, self.tokenizer.Encode(list(texts.values()))))
        return [(waves[i], tokens[i]) if i in waves else None for i in ids]

    def _Collate(self, examples: list[Any], padded: tuple[int, ...]) -> nested_map.NestedMap:
        waves, tokens = zip(*((None, None) if e is None else e for e in examples))
        counts = [0 if row is None else len(row) + 1 for row in tokens]
        length = int(order.PaddedLengths(max(1, *counts)))
        return nested_map.NestedMap(
            source=self._Waveforms(waves, padded[0]), target=token_arrays.Targets(tokens, length)
        )
