"""lingvo_lite diff A B: how params differ."""

from __future__ import annotations

import argparse
from typing import Any

from lingvo_lite.commands import model_flags


def AddTo(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        'diff', help='how two models, params files or log directories differ'
    )
    parser.add_argument('a', metavar='A')
    parser.add_argument('b', metavar='B')
    model_flags.AddImport(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Prints a line for each key that differs."""
    from lingvo_lite.jobs.config import describe

    print(describe.Diff(flags.a, flags.b), end='')
    return 0
