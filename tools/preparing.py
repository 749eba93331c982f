"""What prepare tools share: the command, the folder that they fill, and going on where they were.

    def Prepare(settings):
        with preparing.Folder(settings.out, 'prepare_x'):
            paths = preparing.WriteShards(made, prefix, count, shards, names, meta)
            preparing.WriteReport(settings.out, {...})

Killed, a tool goes on where it was when it is started again: shards that stand there whole and were
made from the same are kept, so `meta` says what they were made from, and their records are
`LazyRecord`s, which cost nothing before they are written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable

from lingvo_lite import __version__
from lingvo_lite.inputs import records
from lingvo_lite.runs import atomic, locks

_REPORT = 'prepare.json'


def Main(tool: str, prepare: Callable[[], str]) -> int:
    """Runs a tool as a command and prints what it says in the end.

    Args:
      tool: its name.
      prepare: does the work; returns a summary.

    Returns:
      The exit code: 2 for a mistake, told in one line.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # before TensorFlow is imported
    try:
        print(prepare())
    except (ValueError, OSError, ImportError) as error:
        print(f'{tool}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f'{tool}: stopped; the same command goes on from here.', file=sys.stderr)
        return 130
    return 0


def Parser(tool: str, description: str, out: str) -> argparse.ArgumentParser:
    """A parser of flags, --out among them.

    Args:
      tool: its name.
      description: the docstring of the tool.
      out: what --out usually is in the data folder.
    """
    parser = argparse.ArgumentParser(
        prog=tool,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('--out', metavar='DIR', required=True, help=f'{out} in the data folder')
    return parser


@contextlib.contextmanager
def Folder(path: str, tool: str) -> Iterator[None]:
    """The folder that a tool fills, made if need be. What a killed tool left behind is removed.

    Raises:
      locks.LockedError: if another process works in it.
    """
    os.makedirs(path, exist_ok=True)
    with locks.JobLock(path, tool):
        records.RemoveLeftovers(path)
        yield


class LazyRecord:
    """(payload, lengths), made when it is unpacked.

    `records.WriteShards` only counts the records of shards that it keeps, so a restart costs
    little.
    """

    def __init__(self, make: Callable[[], tuple[bytes, Sequence[int]]]):
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self._make())


def WriteShards(
    made: Iterable[Any],
    prefix: str,
    num_records: int,
    num_shards: int,
    length_names: Sequence[str],
    meta: Mapping[str, Any],
) -> list[str]:
    """`records.WriteShards`, but that those of another number of shards are removed."""
    records.RemoveOtherShards(prefix, num_shards)
    return records.WriteShards(made, prefix, num_records, num_shards, length_names, meta)


def ReadReport(folder: str) -> dict[str, Any]:
    """What `WriteReport` wrote before; {} if it was not there yet."""
    path = os.path.join(folder, _REPORT)
    if not os.path.exists(path):
        return {}
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def WriteReport(folder: str, report: Mapping[str, Any]) -> None:
    """Writes prepare.json: what was read, dropped and made, and by which version."""
    content = {'lingvo_lite': __version__, **report}
    atomic.WriteJson(os.path.join(folder, _REPORT), content)
