"""lingvo_lite show MODEL: the params of an experiment."""

from __future__ import annotations

import argparse
from typing import Any

from lingvo_lite.commands import job_flags, model_flags


def AddTo(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the subparsers."""
    parser = commands.add_parser('show', help="an experiment's params")
    parser.add_argument('model', metavar='MODEL')
    parser.add_argument('--why', metavar='KEY', help='value, meaning and origin of one param')
    model_flags.AddParams(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Prints the params, or all about one of them."""
    from lingvo_lite.jobs.config import describe

    source = job_flags.Source(flags)
    print(describe.Show(flags.model, flags.dataset, source, flags.why), end='')
    return 0
