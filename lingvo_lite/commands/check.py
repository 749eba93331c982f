"""lingvo_lite check MODEL: whether an experiment can be built."""

from __future__ import annotations

import argparse
from typing import Any

from lingvo_lite.commands import job_flags, model_flags


def AddTo(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the subparsers."""
    parser = commands.add_parser('check', help='builds an experiment without its variables')
    parser.add_argument('model', metavar='MODEL')
    model_flags.AddParams(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Prints what was built and checked."""
    from lingvo_lite.jobs.config import describe

    print(describe.Check(flags.model, flags.dataset, job_flags.Source(flags)), end='')
    return 0
