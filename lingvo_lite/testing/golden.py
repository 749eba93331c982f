"""Texts that are kept, so that a review sees what changed in them.

    golden.Check('mt.WmtEnDe.params', params.ToText())

compares with tests/golden/mt.WmtEnDe.params.txt. UPDATE_GOLDEN=1 in the environment writes the
file instead; what changed is then in the diff of the commit.
"""

from __future__ import annotations

import difflib
import os
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden'

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
_SHOWN = 40


def Check(name: str, text: str) -> None:
    """Compares `text` with tests/golden/<name>.txt.

    Raises:
      AssertionError: with the lines that differ, or if there is no such file.
      ValueError: if `name` cannot be that of a file.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f'{name!r} is no name for a golden file: it must match {_NAME.pattern}.')
    path = FOLDER / f'{name}.txt'
    if os.environ.get('UPDATE_GOLDEN') == '1':
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return
    if not path.is_file():
        raise AssertionError(f'There is no {path}. UPDATE_GOLDEN=1 writes it; look at it then.')
    kept = path.read_bytes().decode()
    if kept == text:
        return
    lines = list(
        difflib.unified_diff(
            kept.splitlines(), text.splitlines(), 'kept', 'found', lineterm='', n=1
        )
    )
    more = f'\n... and {len(lines) - _SHOWN} lines more' if len(lines) > _SHOWN else ''
    shown = '\n'.join(lines[:_SHOWN]) or 'They differ in line ends only.'
    raise AssertionError(
        f'{path} differs:\n{shown}{more}\nIf that is meant, run again with UPDATE_GOLDEN=1.'
    )
