"""Audio files of one's own, to be recognized."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional, Union

from absl import logging

from lingvo_lite import hyperparams, nested_map
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import order, own_input, source
from lingvo_lite.inputs.speech import audio, audio_headers, utterances, waveform_input

_BLANK = ' \t\r'
_Line = Union[str, source.BadRecordError]


class SpeechFilesInput(own_input.OwnInput, waveform_input.WaveformInput):
    """Audio files without transcripts: what `decoder --input=FILE|-` reads.

    FILE is one audio file, a text file that names audio files, a path a line, a folder, or a
    pattern such as 'talks/*.flac'; of the last two the files are sorted by path. Batches have no
    `target`; `Strings` gives the path as `source`.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define(
            'source_file',
            '',
            "Path of an audio file, of a list or of a folder, or a pattern; '-': standard input.",
        )
        return p

    @classmethod
    def Open(cls, path: str) -> source.IterableSource:
        """The paths that an audio file (its own), a list, a folder, a pattern or '-' gives."""
        return own_input.Stream(path, _InFile, _Named)

    def __init__(self, params: hyperparams.Params, lines: Optional[source.Source] = None):
        """Reads the heads of the files.

        Raises:
          FileNotFoundError, ValueError: if the list is missing or empty.
          BadRecordError: if more files than allowed are missing, empty, cut short, or no audio.
        """
        if lines is None:
            lines = next(self.Open(params.source_file).Windows(sys.maxsize), None)
        if lines is None:
            raise ValueError(f'{params.source_file} is empty: it names no audio file.')
        super().__init__(params, utterances.FileUtterances(lines))

    def Strings(self, index: int) -> nested_map.NestedMap:
        """`source`, the path of a file. Raises IndexError if there is none; -1 is none."""
        return nested_map.NestedMap(source=self._Text(index)[0])

    def _Load(self, ids: Sequence[int], plan: order.PlannedBatch, train: bool) -> list[Any]:
        del plan, train
        waves: list[Any] = []
        for i in ids:
            try:
                waves.append(self.Waveform(i))
            except source.BadRecordError as error:
                self._NoteBad(i, error)
                waves.append(None)
        return waves

    def _Collate(self, examples: list[Any], padded: tuple[int, ...]) -> nested_map.NestedMap:
        return nested_map.NestedMap(source=self._Waveforms(examples, padded[0]))


def FindAudioFiles(path: str) -> list[str]:
    """The audio files in a folder and below it, or that match a pattern, sorted by path.

    In a folder a file is known by the end of its name; with a pattern all that matches counts.

    Raises:
      FileNotFoundError: if there is none.
    """
    return _Found(path)[0]


def CheckPaths(path: str) -> None:
    """Looks whether there is anything to read, and whether it is audio.

    Raises:
      FileNotFoundError: if there is nothing.
      ValueError: if a file is neither audio that is read nor a list of paths.
    """
    if not os.path.isfile(path):
        FindAudioFiles(path)
    elif not audio_headers.IsText(path):
        audio.ReadHeader(path)
    else:
        named = list(_Named(source.FileLines(path)))
        if not any(isinstance(name, str) and os.path.exists(name) for name in named):
            begins = f', which begins with {named[0]!r},' if named else ''
            raise ValueError(
                f'{path} is text, no audio, and no line of it{begins} is the path of a file.'
            )


def _Found(path: str) -> tuple[list[str], list[str]]:
    """The audio files, and what else lies in the folder; both sorted."""
    if os.path.isdir(path):
        there = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
        found = [name for name in there if name.lower().endswith(audio_headers.ENDINGS)]
        endings = ', '.join(audio_headers.ENDINGS)
        missing = f'{os.path.abspath(path)} holds no file that ends in {endings}.'
    else:
        there = found = [name for name in glob.glob(path, recursive=True) if os.path.isfile(name)]
        missing = f'there is no file {os.path.abspath(path)}.'
    if not found:
        raise FileNotFoundError(missing)
    return sorted(found), sorted(set(there) - set(found))


def _InFile(path: str) -> Iterator[_Line]:
    if os.path.isfile(path):
        if audio_headers.IsText(path):
            return _Named(source.FileLines(path))
        return iter([path])
    found, others = _Found(path)
    if others:
        logging.warning(
            '%s of %s files in %s have other endings than those of audio (%s) and are left out. '
            'First: %s.',
            *(f'{n:,}' for n in (len(others), len(others) + len(found))),
            path,
            ', '.join(audio_headers.ENDINGS),
            others[0],
        )
    return iter(found)


def _Named(lines: Iterable[_Line]) -> Iterator[_Line]:
    """Lines without those that are empty."""
    for line in lines:
        if isinstance(line, source.BadRecordError):
            yield line
        elif line.strip(_BLANK):
            yield line.strip(_BLANK)  # a path may end with a no-break space
