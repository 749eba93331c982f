"""What `tune_batch` says of its search: a table, and the --set to use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional, TextIO

from lingvo_lite.jobs.devices import memory_probe, trial_process

_HEADROOM = 0.95  # of what fits: other shapes, and what the allocator cannot use


class Tuned(NamedTuple):
    """What was found for a bucket.

    Attributes:
      bucket: which.
      rows: most rows that fit; 0 if not even one does.
      peak: bytes used with these; None if unknown.
      seconds: of a step with these.
      is_all: whether more rows than there are examples would fit.
    """

    bucket: trial_process.Bucket
    rows: int
    peak: Optional[int]
    seconds: float
    is_all: bool


def Write(out: TextIO, about: trial_process.About, found: Sequence[Tuned]) -> None:
    """Writes the table and the advice.

    Args:
      out: gets them.
      about: what was tried, on what.
      found: of each bucket.
    """
    import rich.console
    import rich.table

    unit = 'frames' if about.side_names[0] == 'frames' else 'tokens'
    table = rich.table.Table(box=None, pad_edge=False)
    table.add_column(f'bucket ({" x ".join(about.side_names)})')
    for name in ('rows now', f'{unit} now', 'rows that fit', unit, 'memory', f'{unit}/s'):
        table.add_column(name, justify='right')
    for each in found:
        now, fit = (rows * sum(each.bucket.padded) for rows in (each.bucket.rows, each.rows))
        table.add_row(
            each.bucket.Shape(),
            f'{each.bucket.rows:,}',
            f'{now:,}',
            f'{each.rows:,}' + (' (all)' if each.is_all else ''),
            f'{fit:,}',
            '-' if each.peak is None else memory_probe.Gigabytes(each.peak),
            f'{fit / each.seconds:,.0f}' if each.seconds else '-',
        )
    rich.console.Console(file=out, width=120).print(table)
    out.write(Advice(about.keys, found))
    out.flush()


def Advice(keys: dict[str, int], found: Sequence[Tuned]) -> str:
    """The lines to use, with 5% of headroom where more than one row fits.

    Args:
      keys: {param of the input that limits a batch: its value}.
      found: of each bucket.
    """
    none = [each for each in found if not each.rows]
    if none:
        return (
            f'Not one row of bucket {none[0].bucket.Shape()} fits: train on shorter examples, or '
            'make the model smaller.\n'
        )
    full = [each for each in found if not each.is_all]
    if not full:
        return 'A batch of all examples fits: memory is no limit.\n'
    rows = math.floor(_HEADROOM * min(each.rows for each in full))
    tokens = math.floor(_HEADROOM * min(each.rows * sum(each.bucket.padded) for each in full))
    # What is longer than a whole batch is not trained on.
    tokens = max(tokens, *(sum(each.bucket.padded) for each in found))
    best = {'tokens_per_batch': tokens, 'batch_size': max(1, rows)}
    return ''.join(f'--set=input.{key}={best[key.rpartition(".")[2]]}\n' for key in keys)
