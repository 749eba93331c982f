"""metrics.jsonl: the scalars of a job, one JSON object a line.

    {"step": 100, "loss": 5.25, "tokens_per_second": 11900.0}

A line is appended and fsynced at once, so a line that is there is a fact: evaler and decoder take
it for the commit of a score. Only the last line can be torn (no line break at its end); readers
leave it out and the next writer drops it. A float that is not finite is the string "nan", "inf" or
"-inf", because JSON has no such numbers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, Callable

from lingvo_lite.runs import atomic

_NOT_FINITE = {'nan': math.nan, 'inf': math.inf, '-inf': -math.inf}


class MetricsLog:
    """Writes one metrics.jsonl. There is one writer at a time (see `locks`)."""

    def __init__(self, path: str):
        """Opens the file, dropping a torn last line.

        Raises:
          ValueError: if a line before the last is no record.
        """
        self.path = path
        self._Rewrite(lambda record: True)

    def Append(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line; it is on the disk when this returns.

        Args:
          step: the training step that the values belong to.
          values: {name: float, int, bool, str or None}; NumPy scalars are fine.

        Raises:
          ValueError: if a value is anything else, or named 'step'.
          OSError: if it cannot be written, as on a full disk; the file is as it was then.
        """
        record = {'step': int(step)}
        for name, value in values.items():
            if name == 'step':
                raise ValueError("A metric cannot be called 'step': that is the line's own key.")
            record[name] = _Encode(name, value)
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + '\n'
        is_new = not os.path.exists(self.path)
        # Unbuffered: the line goes out in one write, so that no reader sees two halves in turn.
        rest = line.encode('utf-8')
        with open(self.path, 'ab', buffering=0) as file:
            size = file.tell()
            try:
                # On a disk with too little room the first part is written without an error.
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(size)
                raise OSError(error.errno, error.strerror, self.path) from error
        if is_new:
            atomic.FsyncFolder(os.path.dirname(os.path.abspath(self.path)))

    def CutBackTo(self, step: int) -> int:
        """Removes the lines after `step`, as a trainer does that restored it.

        Returns:
          How many lines were removed.
        """
        return self._Rewrite(lambda record: record['step'] <= step)

    def _Rewrite(self, keep: Callable[[dict[str, Any]], bool]) -> int:
        if not os.path.exists(self.path):
            return 0
        with open(self.path, 'rb') as file:
            content = file.read()
        lines = _WholeLines(content)
        kept = [
            line for number, line in enumerate(lines, 1) if keep(_Parse(self.path, number, line))
        ]
        text = b''.join(kept)
        if text != content:
            atomic.Write(self.path, text.decode('utf-8'))
        return len(lines) - len(kept)


def Read(path: str) -> list[dict[str, Any]]:
    """All whole lines of a metrics.jsonl; [] if there is no such file.

    Raises:
      ValueError: with file and line, if a whole line is no record.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except FileNotFoundError:
        return []
    records = [_Parse(path, number, line) for number, line in enumerate(_WholeLines(content), 1)]
    return [{name: _Decode(value) for name, value in record.items()} for record in records]


def Steps(path: str) -> set[int]:
    """The steps that have a line."""
    return {record['step'] for record in Read(path)}


def _WholeLines(content: bytes) -> list[bytes]:
    # Not splitlines: that would also split at other line breaks.
    return [line + b'\n' for line in content.split(b'\n')[:-1]]


def _Parse(path: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode('utf-8'))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get('step'), int):
        raise ValueError(
            f'{path}:{number} is no record with a step: {line[:80]!r}. Remove the line, or move '
            'the file away.'
        )
    return record


def _Encode(name: str, value: Any) -> Any:
    if hasattr(value, 'item'):  # NumPy scalars, without importing NumPy
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f'Metric {name!r} must be a scalar or a text, got {type(value).__name__}.')


def _Decode(value: Any) -> Any:
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
