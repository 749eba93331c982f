"""Params as text, one 'key : value' line a leaf, and what differs between two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lingvo_lite import literals
from lingvo_lite.configuration import tree
from lingvo_lite.configuration.errors import ConfigError, SetAt

_LINE = re.compile(rf'\s*({literals.PATH.pattern})\s*:(.*)')


def Text(value: Any) -> str:
    """The text of one value."""
    if value is tree.REQUIRED:
        return 'REQUIRED'
    return '{...}' if tree.IsPlain(value) else literals.Format(value)


def Write(node: tree.Node) -> str:
    """The lines of all that is at this node and below, sorted by key; `Read` reads them."""
    lines = tree.Lines(node)
    return ''.join(f'{path} : {Text(value)}\n' for path, value in lines)


def Read(node: tree.Node, text: str, source: str) -> list[tuple[str, Any, str]]:
    """The lines of a text, outer ones before inner ones.

    A line that swaps a class so comes before the values of that class, whatever their order.

    Args:
      node: to which the keys are relative; it gives messages the whole path, and stays as it is.
      text: 'key : value' lines; lines that start with # and empty lines are skipped.
      source: the file's name, for errors.

    Returns:
      (key, value, 'source:line') of each, the value still to be checked.

    Raises:
      ConfigError: on anything that cannot be read, and on a key that is given twice.
    """
    entries: dict[literals.Path, tuple[str, Any, str]] = {}
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        where = f'{source}:{number}'
        match = _LINE.fullmatch(line)
        if not match:
            shown = literals.Shown(line.strip())
            raise ConfigError(f'{where}: {shown} is not in the form key : value.')
        key, written = match[1], match[2].strip()
        try:
            parts = literals.SplitPath(key)
            value = tree.REQUIRED if written == 'REQUIRED' else literals.Parse(written)
        except literals.LiteralError as error:
            raise ConfigError(f'{node.Path(key)}: {error}. {SetAt(where)}') from None
        if parts in entries:
            raise ConfigError(f'{where}: {key} was already given at {entries[parts][2]}.')
        entries[parts] = (key, value, where)
    return [entry for _, entry in sorted(entries.items(), key=lambda e: len(e[0]))]


def Diff(one: tree.Node, other: tree.Node) -> str:
    """One line for each key that differs; see `DiffLines`."""
    mine = {path: Text(value) for path, value in tree.Lines(one)}
    theirs = {path: Text(value) for path, value in tree.Lines(other)}
    return '\n'.join(DiffLines(mine, theirs))


def DiffLines(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """A line for each key whose value differs, sorted.

    '- key : value' stands only in `mine`, '+ key : value' only in `theirs`, and
    'key : mine -> theirs' in both.
    """
    lines = []
    for key in sorted({*mine, *theirs}):
        if key not in theirs:
            lines.append(f'- {key} : {mine[key]}')
        elif key not in mine:
            lines.append(f'+ {key} : {theirs[key]}')
        elif mine[key] != theirs[key]:
            lines.append(f'{key} : {mine[key]} -> {theirs[key]}')
    return lines
