"""Where data files are: names in recipes, relative to the data folder, become paths."""

from __future__ import annotations

import contextlib
import glob
import os
from typing import Callable, Optional

from lingvo_lite.inputs import cache

SIDECAR = '.index.npz'  # what the names of sidecars end with, see `records`
_data_dir: Optional[str] = None


def SetDataDir(folder: Optional[str]) -> None:
    """Sets the data folder of this process: what --data_dir says. None takes it back."""
    global _data_dir
    _data_dir = folder


def FindData(name: str, prepared_by: str = '') -> str:
    """The absolute path of a data file.

    Looked for in the data folder (`SetDataDir`, which --data_dir calls), in the folder that
    LINGVO_LITE_DATA names, and in the cache folder, where recipes put data that they make. A
    plain name is also found as .gz.

    Args:
      name: relative to the data folder, or absolute.
      prepared_by: the command that makes the file, for the error.

    Raises:
      FileNotFoundError: says where it was looked for and what to do.
    """
    found = _Search(name, _Existing)
    if not found:
        raise FileNotFoundError(_NotFound(name, prepared_by))
    return found[0]


def FindDataFiles(pattern: str, prepared_by: str = '') -> list[str]:
    """The absolute paths that match a pattern such as 'wmt/train-*.tfrecord', sorted.

    The first folder with a match is taken; see `FindData`. Several patterns are separated by
    commas. Sidecars of records match nothing.

    Raises:
      FileNotFoundError: if a pattern matches nothing.
    """
    paths = []
    for part in pattern.split(','):
        found = _Search(part.strip(), _Matches)
        if not found:
            raise FileNotFoundError(_NotFound(part.strip(), prepared_by))
        paths += found
    return paths


def _Existing(folder: str, name: str) -> list[str]:
    path = os.path.join(folder, name)
    return [each for each in (path, path + '.gz') if os.path.exists(each)][:1]


def _Matches(folder: str, pattern: str) -> list[str]:
    """The folder is a path, whatever its name is."""
    found = glob.glob(os.path.join(glob.escape(folder), pattern))
    return [path for path in sorted(found) if not path.endswith(SIDECAR)]


def _Folders() -> list[tuple[str, str]]:
    """(folder, where that comes from), in the order of search."""
    known = [
        (_data_dir, '--data_dir'),
        (os.environ.get('LINGVO_LITE_DATA'), 'LINGVO_LITE_DATA'),
    ]
    with contextlib.suppress(OSError):  # there is none
        known.append((cache.CacheDir(), 'the cache folder'))
    return [(os.path.abspath(os.path.expanduser(f)), origin) for f, origin in known if f]


def _Search(name: str, match: Callable[[str, str], list[str]]) -> list[str]:
    """The matches in the first folder that has one."""
    for folder, _ in _Folders():
        found = match(folder, os.path.expanduser(name))
        if found:
            return found
    return []


def _NotFound(name: str, prepared_by: str) -> str:
    if os.path.isabs(name):
        text = f'No data file {name}.'
    else:
        searched = ', '.join(f'{folder} ({origin})' for folder, origin in _Folders())
        text = (
            f'No data file {name!r}. Searched: {searched}. Name the data folder with '
            '--data_dir=FOLDER or the environment variable LINGVO_LITE_DATA.'
        )
    return f'{text} {prepared_by} makes this file.' if prepared_by else text
