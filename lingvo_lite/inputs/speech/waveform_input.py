"""What inputs of speech share: audio by index, its length in frames, and its place in a batch.

    source.waveform      float32 [b, n]   in [-1, 1] at params.sample_rate, 0.0 behind the end
    source.num_samples   int32 [b]        0 in fill rows

Lengths are counted in frames of 10 ms, and so is the budget tokens_per_batch: rows x padded frames.
"""

from __future__ import annotations

import fractions
from collections.abc import Sequence
from typing import Optional

import numpy as np

from lingvo_lite import hyperparams, nested_map
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import notices, source
from lingvo_lite.inputs.speech import audio, utterances
from lingvo_lite.inputs.text import tokenized_input

FRAMES_A_SECOND = 100
_KEPT_SAMPLES = 1 << 26  # decoded audio that is kept in memory: 256 MB, 70 minutes at 16 kHz


class WaveformInput(tokenized_input.TokenizedInput):
    """What inputs of speech share: decoding, lengths, laying out."""

    side_names = ('source',)
    _held: utterances.Utterances

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('sample_rate', 16000, 'Rate in hertz that all audio is brought to.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if values do not fit."""
        super().Check(p)
        whole = p.sample_rate >= FRAMES_A_SECOND and p.sample_rate % FRAMES_A_SECOND == 0
        hyperparams.Require(p, whole, 'sample_rate', f'a multiple of {FRAMES_A_SECOND} hertz')

    def __init__(self, params: hyperparams.Params, held: utterances.Utterances):
        """Counts the utterances without audio as bad records.

        Raises:
          BadRecordError: if there are too many.
        """
        audio.CheckNative()
        super().__init__(params, held)
        for index in np.flatnonzero(~self._HaveAudio()):
            self._NoteBad(index, held.Problem(int(index)))
        self._clipped = notices.Notice(held.first + len(held))
        self._kept: dict[tuple[int, fractions.Fraction], np.ndarray] = {}
        total = self._Samples(np.arange(len(held)), fractions.Fraction(1)).sum()
        self._keeps = total * self._NumSpeeds() <= _KEPT_SAMPLES

    def Waveform(self, index: int) -> np.ndarray:
        """The audio of an utterance as it is, float32 [samples] in [-1, 1] at params.sample_rate.

        Raises:
          BadRecordError: if it cannot be read.
        """
        return self._Read(index, fractions.Fraction(1))[0]

    def _HaveAudio(self) -> np.ndarray:
        """[utterances] bool: False for those that are known to be bad."""
        return (self._held.samples > 0) & (self._held.sample_rates > 0)

    def _Usable(self, train: bool) -> np.ndarray:
        del train
        return self._HaveAudio()

    def _NumSpeeds(self) -> int:
        return 1

    def _Text(self, index: int) -> tuple[str, str]:
        if not 0 <= index < len(self._held):
            raise IndexError(f'{self._held.name} has {len(self._held):,} utterances, not {index}.')
        return self._held.Text(int(index))

    def _Ratio(self, rate: int, speed: fractions.Fraction) -> fractions.Fraction:
        """Samples that come out for each that goes in."""
        return fractions.Fraction(self.params.sample_rate, rate) / speed

    def _Samples(self, ids: np.ndarray, speed: fractions.Fraction) -> np.ndarray:
        """[ids] samples after resampling at that speed."""
        held = self._held
        counts = np.zeros(len(ids), np.int64)
        for rate in np.unique(held.sample_rates[ids]):
            if rate < 1:
                continue
            ratio = self._Ratio(int(rate), speed)
            own = held.sample_rates[ids] == rate
            # ceil(samples * ratio), which is what resampling makes
            scaled = held.samples[ids][own] * ratio.numerator
            counts[own] = -(-scaled // ratio.denominator)
        return counts

    def _Frames(self, samples: np.ndarray) -> np.ndarray:
        return -(-samples * FRAMES_A_SECOND // self.params.sample_rate)

    def _Lengths(self, train: bool) -> np.ndarray:
        del train
        ids = np.arange(len(self._held))
        return self._Frames(self._Samples(ids, fractions.Fraction(1)))[:, None]

    def _Read(self, index: int, speed: fractions.Fraction) -> tuple[np.ndarray, str]:
        """Waveform at a speed, and transcript. Of small corpora all waveforms stay in memory."""
        kept = self._kept.get((index, speed))
        if kept is not None:
            return kept, self._held.Text(index)[1]
        found = self._held.Get(index)
        where = self._held.Where(index)

        def _NoteClipped(count: int) -> None:
            self._clipped.Note(index, f'{where}: {audio.ClippedText(count)}')

        rate, waveform = audio.Decode(found.audio, where, found.samples, _NoteClipped)
        if rate != self._held.sample_rates[index]:
            raise source.BadRecordError(
                f'{where}: it has {rate:,} Hz, its index says {self._held.sample_rates[index]:,}.'
            )
        waveform = audio.Convert(waveform, self._Ratio(rate, speed), _NoteClipped)
        waveform.setflags(write=False)
        if self._keeps:
            self._kept[index, speed] = waveform
        return waveform, found.transcript

    def _Waveforms(self, rows: Sequence[Optional[np.ndarray]], frames: int) -> nested_map.NestedMap:
        """source.*; a row None is silence of no length."""
        samples = frames * self.params.sample_rate // FRAMES_A_SECOND
        waveform = np.zeros((len(rows), samples), np.float32)
        for row, own in enumerate(rows):
            if own is not None:
                waveform[row, : len(own)] = own
        counts = [0 if own is None else len(own) for own in rows]
        return nested_map.NestedMap(waveform=waveform, num_samples=np.array(counts, np.int32))
