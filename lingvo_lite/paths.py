"""Paths are paths: what TensorFlow would take for a pattern."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

_OF_PATTERNS = frozenset('*?[]{}\\')


@contextlib.contextmanager
def Literal(path: str) -> Iterator[str]:
    """The name by which TensorFlow finds a file; inside only.

    It reads the names of checkpoints as patterns first, so that it finds none in a folder called
    'lr[0.1]'. It gets a name of the folder that has no such characters.
    """
    if not _OF_PATTERNS & set(path):
        yield path
        return
    folder, name = os.path.split(os.path.abspath(path))
    with tempfile.TemporaryDirectory() as temporary:
        link = os.path.join(temporary, 'folder')
        os.symlink(folder, link)
        yield os.path.join(link, name)
