"""Files that are there whole or not at all, also after a crash."""

from __future__ import annotations

import json
import os
from typing import Any


def Write(path: str, text: str) -> None:
    """Writes a UTF-8 file under a temporary name, fsyncs it and renames it.

    Raises:
      OSError: if it cannot be written; the old file, if any, is untouched then.
    """
    folder, name = os.path.split(os.path.abspath(path))
    # The name must differ between threads and processes that write the same file.
    temporary = os.path.join(folder, f'{TEMPORARY}{name}-{os.getpid()}-{os.urandom(4).hex()}')
    try:
        with open(temporary, 'w', encoding='utf-8', newline='') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, path) from error
        raise
    FsyncFolder(folder)


def WriteJson(path: str, value: Any) -> None:
    """Writes a JSON file as `Write` does."""
    Write(path, json.dumps(value, indent=2, ensure_ascii=False) + '\n')


def FsyncFile(path: str) -> None:
    """Waits until a file's content is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def FsyncFolder(path: str) -> None:
    """Waits until the names in a folder (what was renamed or removed there) are on the disk."""
    FsyncFile(path)


# Names that start so are never anyone's result; their owner removes them when it starts.
TEMPORARY = '.tmp-'
