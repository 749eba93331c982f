"""Files that a run owns: copies of what its Params name and decoding needs.

    RUN/files/  tokenizer-3f2a....model  3-gram.arpa.gz  files.json ({name: SHA-256})

A job says once whose files it works with, and whoever needs one asks by `Path`:

    with run_files.Of(run.files) as kept:
        inputs = params.Instantiate()  # its tokenizer comes from the run, if the run has it
        kept.Save()                    # what came from elsewhere is the run's from now on

So a run that is copied to another machine works there without data and with an empty cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Callable, Optional

from lingvo_lite import hyperparams
from lingvo_lite.inputs import cache, data_files

_MANIFEST = 'files.json'
_current: Optional[Keeper] = None


class DamagedError(hyperparams.ConfigError):
    """A file of a run is missing, or is not what was put there."""


class Keeper:
    """The files of one run.

    Args:
      folder: of the files; need not exist.
      fresh: whether the run begins, so that what lies there was left by another one.
    """

    def __init__(self, folder: str, fresh: bool = False):
        self._folder = folder
        self._found: dict[str, str] = {}  # {name: path elsewhere}, of what the run has not
        self._checked: set[str] = set()
        self._hashes: dict[str, str] = {}
        manifest = os.path.join(folder, _MANIFEST)
        if os.path.exists(manifest) and not fresh:
            try:
                with open(manifest, encoding='utf-8') as file:
                    self._hashes = dict(json.load(file))
            except ValueError:
                raise DamagedError(f'{manifest} is damaged: it is no JSON.') from None

    def Path(self, name: str, find: Callable[[], str]) -> str:
        """The path of a file: in the run, or where `find` says.

        Raises:
          DamagedError: if the run has it, and it is missing or has other content.
        """
        if name not in self._hashes:
            self._found[name] = find()
            return self._found[name]
        path = os.path.join(self._folder, name)
        if name not in self._checked:
            if not os.path.isfile(path):
                raise DamagedError(f'{path} is missing. Copy it again from where the run was made.')
            if _Hash(path) != self._hashes[name]:
                raise DamagedError(
                    f'{path} is damaged: its SHA-256 is not the one in {_MANIFEST}. Copy it again '
                    'from where the run was made.'
                )
            self._checked.add(name)
        return path

    def Save(self) -> None:
        """Copies what was asked for and came from elsewhere; the manifest is written last."""
        if not self._found:
            return
        os.makedirs(self._folder, exist_ok=True)
        for name, path in self._found.items():
            copy = functools.partial(shutil.copyfile, path)
            cache.WriteWhole(os.path.join(self._folder, name), copy)
            self._hashes[name] = _Hash(os.path.join(self._folder, name))
        text = json.dumps(self._hashes, indent=1, sort_keys=True) + '\n'
        cache.WriteWhole(os.path.join(self._folder, _MANIFEST), lambda to: _Write(to, text))
        self._checked.update(self._found)
        self._found.clear()


@contextlib.contextmanager
def Of(folder: str, fresh: bool = False) -> Iterator[Keeper]:
    """Inside, `Path` looks into this folder of a run first. Arguments as of `Keeper`."""
    global _current
    before = _current
    _current = Keeper(folder, fresh)
    try:
        yield _current
    finally:
        _current = before


def Path(name: str, find: Callable[[], str]) -> str:
    """The path of a file that a run should own: `Keeper.Path` of the job's run, if it has one.

    Args:
      name: of the copy. It must say all that the content depends on: see `Name`.
      find: finds or makes the file if the run has none.
    """
    return find() if _current is None else _current.Path(name, find)


def FindData(name: str, prepared_by: str = '') -> str:
    """As `data_files.FindData`, for what decoding needs: the run's own copy, if it has one."""
    return Path(Name(name, 'data', name), lambda: data_files.FindData(name, prepared_by))


def Name(path: str, *settings: object) -> str:
    """The name of the copy of a file: its own name, behind a hash of the settings it is for."""
    stem = os.path.basename(path)
    return f'{cache.Key(*settings)}-{stem}' if settings else stem


def _Write(path: str, text: str) -> None:
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)


def _Hash(path: str) -> str:
    return cache.FileHash(path, hashlib.sha256())
