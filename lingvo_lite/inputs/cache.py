"""The cache folder: what lingvo_lite makes by itself once and then finds again.

It is LINGVO_LITE_CACHE, else ~/.cache/lingvo_lite. Nothing in it is needed: what is deleted is made
again. Names hold a hash of everything that the content depends on, so nothing in it goes stale.

    generated/…          data that a recipe makes (tasks/mt)
    manifests/…          lengths and hashes of audio files (manifests.py)
    tokenizers/<hash>…   vocabularies trained at first use (text/tokenizers/)
    tokens/<hash>.npz    token counts, and the ids of small sources (text/token_table.py)
    lines/<hash>.txt     .gz line files, unpacked for random access (source.py)
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from typing import Any, Callable, TypeVar

try:
    import fcntl
except ImportError:  # no such locks here: two processes then do the work twice, which is safe
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)
_VARIABLE = 'LINGVO_LITE_CACHE'
_BLOCK = 1 << 20  # bytes that are hashed in one go
_T = TypeVar('_T')


def CacheDir() -> str:
    """The absolute path of the cache folder. It need not exist.

    Raises:
      OSError: if nobody has said where it is, and this user has no home folder.
    """
    folder = os.path.expanduser(os.environ.get(_VARIABLE) or '~/.cache/lingvo_lite')
    if folder.startswith('~'):
        raise OSError(f'{folder}: there is no such home folder. Set {_VARIABLE} to a folder.')
    return os.path.abspath(folder)


def Key(*parts: object) -> str:
    """A file name's worth of hash over the text of `parts`."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def FileHash(path: str, digest: Any = None) -> str:
    """A hash of the bytes of a file.

    Args:
      path: of the file.
      digest: fresh from hashlib; None: BLAKE2b, as long as that of `Key`.
    """
    digest = digest or hashlib.blake2b(digest_size=12)
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def Produce(name: str, write: Callable[[str], None]) -> str:
    """The path of a file in the cache, made by `write` if it is not there.

    Whole or absent: `write` gets a temporary path, and the file appears under its name when all of
    it is on disk. Of several processes that want it at once, one works and the others wait.

    Args:
      name: relative to the cache folder; should hold a `Key`.
      write: makes the file at the path that it is given.

    Raises:
      OSError: if the cache folder cannot be written.
    """
    path = os.path.join(CacheDir(), name)
    if os.path.exists(path):
        return path
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _Lock(path + '.lock'):
            if not os.path.exists(path):
                WriteWhole(path, write)
    except OSError as error:
        at = str(error.filename or path)
        if not at.startswith(CacheDir()) and not path.startswith(os.path.join(at, '')):
            raise
        raise OSError(
            f'cannot write to the cache folder {CacheDir()}: {error.strerror or error}. '
            f'Set {_VARIABLE} to a folder that can be written.'
        ) from error
    return path


def Load(name: str, write: Callable[[str], None], read: Callable[[str], _T]) -> _T:
    """What `read` makes of a file in the cache; one that it cannot read is made again.

    Args:
      name, write: as for `Produce`.
      read: given the path of the file; raises an error if it is damaged.
    """
    path = Produce(name, write)
    try:
        return read(path)
    except Exception as error:  # whatever damaged bytes lead to
        _log.warning('%s is damaged (%s); it is made again.', path, ' '.join(str(error).split()))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return read(Produce(name, write))


def WriteWhole(path: str, write: Callable[[str], None]) -> None:
    """Has `write` make a temporary file beside `path`, syncs it, and renames it to `path`."""
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f'.{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp')
    try:
        write(temporary)
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _Lock(path: str) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
