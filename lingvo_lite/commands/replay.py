"""lingvo_lite replay RUN STEP: a step once more."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lingvo_lite import flag_types
from lingvo_lite.commands import job_flags, model_flags


def AddTo(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        'replay', help='a step of a run once more, with numbers of every layer'
    )
    parser.add_argument('run', metavar='RUN')
    parser.add_argument(
        'step', metavar='STEP', type=flag_types.Natural, help='as metrics.jsonl counts, from 1'
    )
    parser.add_argument(
        '--pdb',
        action='store_true',
        help='stop in the debugger in the first layer with an output that is not finite, or at '
        'the end of the step',
    )
    model_flags.AddImport(parser)
    model_flags.AddDataDir(parser)
    job_flags.AddDevice(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Takes the step and prints its numbers."""
    from lingvo_lite.jobs.config import job_params
    from lingvo_lite.jobs.faults import replay

    source = job_params.Source(imports=flags.imports, data_dir=flags.data_dir)
    device = job_flags.Device(flags)
    return replay.Run(flags.run, flags.step, source, device, sys.stdout, flags.pdb)
