"""lingvo_lite inspect-input MODEL: what a dataset holds."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lingvo_lite.commands import job_flags, model_flags


def AddTo(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the subparsers."""
    parser = commands.add_parser('inspect-input', help='three batches of a dataset, as text')
    parser.add_argument('model', metavar='MODEL')
    model_flags.AddParams(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Prints the batches."""
    from lingvo_lite.jobs.config import describe

    describe.InspectInput(flags.model, flags.dataset, job_flags.Source(flags), sys.stdout)
    return 0
