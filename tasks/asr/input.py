"""Inputs of corpora that need no prepare tool: manifests are written at first use."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from lingvo_lite import hyperparams, inputs
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs.speech import manifests

DIGITS = 'zero one two three four five six seven eight nine'.split()
_TEST_INDEX = 5  # recordings of FSDD below it are the official test set
_FSDD_NAME = re.compile(r'(\d)_([a-z]+)_(\d+)\.wav')
_MINI_TRAIN = ('19/227', '26/495', '27/123349', '27/124992')
_MINI_UNHEARD = 60  # utterances of 27/124992 from this number on are in no split
_ID_END = re.compile(r'-(\d+)$')


class _SplitInput(inputs.SpeechInput):
    """A corpus with splits, whose files the class knows."""

    splits: tuple[str, ...]

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Delete('file_pattern')
        p.Delete('manifest')
        p.Delete('prepared_by')
        p.Define('split', cls.splits[0], 'Part of the corpus.', choices=cls.splits)
        return p

    @classmethod
    def _CheckFiles(cls, p: hyperparams.Params) -> None:
        del p  # there is nothing to choose

    @classmethod
    def _Open(cls, p: hyperparams.Params) -> inputs.Utterances:
        return inputs.ManifestUtterances(cls.Manifest(p))

    @classmethod
    def Manifest(cls, p: hyperparams.Params) -> str:
        """The path of the manifest of p.split."""
        raise NotImplementedError


class SpokenDigitsInput(_SplitInput):
    """Strings of 1 to 7 digits said by espeak-ng; in the package. No voice is in two splits."""

    splits = ('train', 'dev', 'test')

    @classmethod
    def Manifest(cls, p: hyperparams.Params) -> str:
        """Lies beside this file; tools/make_spoken_digits.py wrote it."""
        return os.path.join(os.path.dirname(__file__), 'spoken_digits', f'{p.split}.tsv')


class FsddInput(_SplitInput):
    """Free Spoken Digit Dataset: single digits said by 6 people, 8 kHz.

    Reads `fsdd/recordings/*.wav` under the data folder. The official split: recordings 0 to 4 of
    each digit and speaker are the test set (https://github.com/Jakobovski/free-spoken-digit-dataset).
    """

    splits = ('train', 'test')

    @classmethod
    def Manifest(cls, p: hyperparams.Params) -> str:
        """Written into the cache folder. Raises FileNotFoundError without the recordings."""
        folder = inputs.FindData('fsdd/recordings', 'git clone of that repository as `fsdd`')
        rows = []
        for name in sorted(os.listdir(folder)):
            match = _FSDD_NAME.fullmatch(name)
            if match and (int(match[3]) < _TEST_INDEX) == (p.split == 'test'):
                rows.append((name[:-4], f'fsdd/recordings/{name}', DIGITS[int(match[1])]))
        return manifests.Produce(f'fsdd-{p.split}', rows)


class LibrispeechMiniInput(_SplitInput):
    """A few speakers of LibriSpeech, from `librispeech-mini/` under the data folder.

    splits: `train`, three speakers; `dev`, another chapter of one of them; `test`, another chapter
    of another; `test_other`, ten speakers of test-other.
    """

    splits = ('train', 'dev', 'test', 'test_other')

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('num_utterances', 0, 'Only so many, the first of the split by id; 0: all.')
        return p

    @classmethod
    def Manifest(cls, p: hyperparams.Params) -> str:
        """Written into the cache folder. Raises FileNotFoundError without the recordings."""
        root = inputs.FindData('librispeech-mini')
        if p.split == 'test_other':
            rows = _FromTable(root)
        else:
            chapters = {'train': _MINI_TRAIN, 'dev': ('26/496',), 'test': ('19/198',)}[p.split]
            rows = [row for chapter in chapters for row in _FromChapter(root, chapter)]
        rows.sort()
        return manifests.Produce(f'librispeech-mini-{p.split}', rows[: p.num_utterances or None])


def _FromChapter(root: str, chapter: str) -> list[tuple[str, str, str]]:
    """(id, file, transcript) of a chapter in the official layout."""
    folder = f'train-clean-100/{chapter}'
    lines = inputs.LineSource(f'{root}/{folder}/{chapter.replace("/", "-")}.trans.txt')
    rows = []
    for i in range(len(lines)):
        name, _, transcript = lines.Get(i).partition(' ')
        number = _ID_END.search(name)
        if chapter == _MINI_TRAIN[-1] and number and int(number[1]) >= _MINI_UNHEARD:
            continue
        rows.append((name, f'librispeech-mini/{folder}/{name}.flac', transcript))
    return rows


def _FromTable(root: str) -> list[tuple[str, str, str]]:
    lines = inputs.LineSource(f'{root}/test-other/transcripts.tsv')
    texts = [lines.Get(i).split('\t') for i in range(len(lines))]
    files = _FlacFiles(root, 'test-other')
    return [(name, files[name], transcript) for name, transcript in texts if name in files]


def _FlacFiles(root: str, split: str) -> dict[str, str]:
    """{id: path relative to the data folder}."""
    found = {}
    for parent, _, names in os.walk(os.path.join(root, split)):
        inside: Sequence[str] = os.path.relpath(parent, root).split(os.sep)
        for name in names:
            if name.endswith('.flac'):
                found[name[:-5]] = '/'.join(['librispeech-mini', *inside, name])
    return found
