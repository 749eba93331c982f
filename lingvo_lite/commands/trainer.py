"""trainer: trains a model in a log directory."""

from __future__ import annotations

import argparse

from lingvo_lite import flag_types
from lingvo_lite.commands import job_flags, parser as parser_lib


def Parser() -> parser_lib.Parser:
    """The parser of the flags."""
    parser = job_flags.JobParser('trainer', 'Trains a model in a log directory.')
    parser.add_argument(
        '--eval',
        metavar='NAMES',
        default='',
        help='datasets to evaluate and decode in this process at each save, e.g. Dev,Test',
    )
    parser.add_argument(
        '--profile_steps',
        metavar='A,B',
        type=_StepRange,
        help='profile from step A to step B into TensorBoard',
    )
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Trains; returns the exit code."""
    job_flags.Need(flags, 'model', 'logdir')
    from lingvo_lite.jobs import trainer

    return trainer.Run(
        flags.model,
        flags.logdir,
        source=job_flags.Source(flags),
        device=job_flags.Device(flags),
        eval_datasets=[name for name in flags.eval.split(',') if name],
        profile_steps=flags.profile_steps,
    )


def _Steps(text: str) -> tuple[int, int]:
    first, _, last = text.partition(',')
    return int(first), int(last)


_StepRange = flag_types.Checked('A,B with 0 < A <= B', _Steps, lambda pair: 0 < pair[0] <= pair[1])
