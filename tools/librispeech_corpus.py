"""LibriSpeech as it is downloaded: splits as archives, as folders, or as folders of folders."""

from __future__ import annotations

import functools
import glob
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Union

from lingvo_lite.inputs import cache

_VERSION = 1  # to be raised when other files come out of the same input
NUM_UTTERANCES = {
    'train-clean-100': 28_539,
    'train-clean-360': 104_014,
    'train-other-500': 148_688,
    'dev-clean': 2_703,
    'dev-other': 2_864,
    'test-clean': 2_620,
    'test-other': 2_939,
}
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)  # of archives


class File(NamedTuple):
    """A FLAC file or a list of transcripts, in the order of the split."""

    name: str  # without folder
    read: Callable[[], bytes]


class FolderSplit:
    """A split, unpacked.

    Attributes:
      path: of its folder.
      name: such as dev-clean.
      reads_anytime: whether `File.read` works when `Files` has gone on.
    """

    reads_anytime = True

    def __init__(self, path: str):
        self.path, self.name = path, os.path.basename(os.path.abspath(path))
        self._paths = sorted(
            glob.glob(os.path.join(glob.escape(path), '*', '*', '*.flac'))
            + glob.glob(os.path.join(glob.escape(path), '*', '*', '*.trans.txt'))
        )

    def Files(self) -> Iterator[File]:
        """All files, sorted by path."""
        for path in self._paths:
            yield File(os.path.basename(path), lambda path=path: _ReadFile(path))

    def Fingerprint(self) -> str:
        """A hash of names, sizes and times."""
        stats = [os.stat(path) for path in self._paths]
        names = [os.path.relpath(path, self.path) for path in self._paths]
        return cache.Key(_VERSION, names, [(s.st_size, s.st_mtime_ns) for s in stats])


class ArchiveSplit:
    """A split as a tar file, which is read from its beginning to its end.

    Attributes: as of `FolderSplit`.
    """

    reads_anytime = False

    def __init__(self, path: str):
        self.path = path
        self.name = os.path.basename(path).split('.tar')[0]

    def Files(self) -> Iterator[File]:
        """All files, in the order of the archive. Raises ValueError if it is damaged."""
        try:
            with tarfile.open(self.path, 'r|*') as archive:
                for member in archive:
                    parts = member.name.split('/')
                    if not member.isfile() or not parts[-1].endswith(('.flac', '.trans.txt')):
                        continue
                    if self.name not in parts:
                        raise ValueError(
                            f'{self.path} holds {member.name}, which is not of {self.name}. '
                            'Unpack it and name the folders of the splits.'
                        )
                    opened = archive.extractfile(member)
                    yield File(parts[-1], functools.partial(self._Read, opened))
        except _DAMAGE as error:
            raise self._Damaged(error) from None

    def Fingerprint(self) -> str:
        """A hash of name, size and time."""
        stat = os.stat(self.path)
        return cache.Key(_VERSION, os.path.basename(self.path), stat.st_size, stat.st_mtime_ns)

    def _Read(self, opened: Any) -> bytes:
        try:
            return opened.read()
        except _DAMAGE as error:
            raise self._Damaged(error) from None

    def _Damaged(self, error: Exception) -> ValueError:
        return ValueError(f'{self.path} is cut short or damaged: {error}. Download it again.')


Split = Union[FolderSplit, ArchiveSplit]


def Open(paths: Sequence[str]) -> list[Split]:
    """The splits of archives, of folders of splits, and of folders that hold those.

    Raises:
      FileNotFoundError: if there is no such file or folder.
      ValueError: if a folder holds no split, or one is given twice.
    """
    found: dict[str, Split] = {}
    for split in [split for path in paths for split in _OpenOne(path)]:
        if split.name in found:
            raise ValueError(
                f'{split.name} is given twice: {found[split.name].path} and {split.path}.'
            )
        found[split.name] = split
    return list(found.values())


def _OpenOne(path: str) -> list[Split]:
    """The splits of an input."""
    if not os.path.exists(path):
        raise FileNotFoundError(f'There is no file or folder {os.path.abspath(path)}.')
    if not os.path.isdir(path):
        return [ArchiveSplit(path)]
    if _IsSplit(path):
        return [FolderSplit(path)]
    inside = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    found: list[Split] = [FolderSplit(folder) for folder in inside if _IsSplit(folder)]
    if not found:
        raise ValueError(
            f'{path} holds no split of LibriSpeech: no {{speaker}}/{{chapter}}/*.trans.txt in it '
            'nor in a folder of it.'
        )
    for folder in inside:
        if not _IsSplit(folder) and _HasAudio(folder):
            print(f'{folder}: audio without *.trans.txt, left out.', file=sys.stderr)
    return found


def _HasAudio(path: str) -> bool:
    pattern = os.path.join(glob.escape(path), '**', '*.flac')
    return next(glob.iglob(pattern, recursive=True), None) is not None


def _IsSplit(path: str) -> bool:
    pattern = os.path.join(glob.escape(path), '*', '*', '*.trans.txt')
    return next(glob.iglob(pattern), None) is not None


def _ReadFile(path: str) -> bytes:
    with open(path, 'rb') as file:
        return file.read()
