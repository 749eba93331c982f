"""How far a long loop is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Optional, TypeVar

_T = TypeVar('_T')
_LINE_EVERY_S = 10.0


def Progress(
    title: str, items: Iterable[_T], total: Optional[int], unit: str, tells_left: bool = False
) -> Iterator[_T]:
    """Shows on stderr how far `items` are: a bar on a terminal, a line now and then elsewhere.

    Args:
      title: what is done.
      items: are passed on.
      total: how many there are; None if that is not known.
      unit: what they are.
      tells_left: whether lines say how many seconds are left, not how many have passed.
    """
    if sys.stderr.isatty():
        import rich.console
        import rich.progress

        console = rich.console.Console(stderr=True)
        yield from rich.progress.track(items, title, total, console=console)
        return
    begin = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        if time.monotonic() - last > _LINE_EVERY_S:
            last = time.monotonic()
            of = f' of {total:,}' if total else ''
            when = f'{last - begin:.0f} s'
            if tells_left and total:
                when = f'{(last - begin) * (total - done) / done:.0f} s left'
            print(f'{title}: {done:,}{of} {unit}, {when}', file=sys.stderr)
        yield item
    print(f'{title}: {done:,} {unit}, {time.monotonic() - begin:.0f} s', file=sys.stderr)
