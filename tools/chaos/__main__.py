"""Harms real runs at random moments, and looks whether anything is lost.

    python -m lingvo_lite.tools.chaos                     # 200 faults over all families
    python -m lingvo_lite.tools.chaos --faults=20 --families=lm --only=kill-save,flip

For each family a tiny run is trained and scored undisturbed. Then runs of the same are started and
harmed, again and again until they are over, and compared with it: the bytes of all checkpoints,
every line of metrics, every decoded example.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Optional

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from . import faults, victims


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit code: 0 if every fault was recovered from and nothing is lost."""
    known = [fault.name for fault in (*faults.RUNNING, *faults.BETWEEN)]
    parser = argparse.ArgumentParser(
        prog='python -m lingvo_lite.tools.chaos',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f'Faults: {", ".join(known)}.\nFamilies: {", ".join(victims.FAMILIES)}.',
    )
    parser.add_argument('--faults', type=int, default=200, metavar='N', help='how many')
    parser.add_argument('--seed', type=int, default=1, help='of choices and moments')
    parser.add_argument('--families', type=_Names(victims.FAMILIES), metavar='A,B', help='only')
    parser.add_argument('--only', type=_Names(known), metavar='A,B', help='only these faults')
    parser.add_argument('--folder', help='for the runs; a new one in the temporary folder')
    flags = parser.parse_args(argv)
    from . import campaign  # imports TensorFlow

    plan = campaign.Plan(
        flags.faults,
        flags.seed,
        flags.families or list(victims.FAMILIES),
        flags.only or known,
    )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # ends the jobs too
    table = campaign.Run(plan, flags.folder)
    print(table.Format())
    return 0 if table.IsClean(flags.faults) else 1


def _Names(known: Sequence[str]):
    def Split(text: str) -> list[str]:
        names = text.split(',')
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f'no {name!r}; there are: {", ".join(known)}.')
        return names

    return Split


if __name__ == '__main__':
    sys.exit(main())
