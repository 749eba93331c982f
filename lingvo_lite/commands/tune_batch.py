"""lingvo_lite tune-batch MODEL: the largest batches that fit into memory."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lingvo_lite import flag_types
from lingvo_lite.commands import job_flags, model_flags


def AddTo(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        'tune-batch', help='the largest batch of each bucket that fits into memory'
    )
    parser.add_argument('model', metavar='MODEL')
    parser.add_argument(
        '--limit',
        metavar='GB',
        type=flag_types.Positive,
        default=0.0,
        help='memory that may be used, in 10^9 bytes: of each GPU, or of the process on a CPU; '
        'default: all of a GPU, 0.8 of what is free on a CPU',
    )
    parser.add_argument(
        '--buckets', metavar='N', type=flag_types.Natural, default=6, help='how many buckets to try'
    )
    model_flags.AddParams(parser, dataset=False)
    job_flags.AddDevice(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Prints the table and the --set to use."""
    from lingvo_lite.jobs.devices import tune_batch

    source, device = job_flags.Source(flags), job_flags.Device(flags)
    return tune_batch.Run(flags.model, source, device, sys.stdout, flags.limit, flags.buckets)
