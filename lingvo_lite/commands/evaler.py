"""evaler: scores the checkpoints of a run by the loss on a dataset."""

from __future__ import annotations

import argparse

from lingvo_lite import hyperparams
from lingvo_lite.commands import job_flags, parser as parser_lib


def Parser() -> parser_lib.Parser:
    """The parser of the flags."""
    parser = job_flags.JobParser('evaler', "Scores a run's checkpoints by their loss on a dataset.")
    job_flags.AddScoring(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Writes RUN/eval_<dataset>; returns the exit code."""
    job_flags.Need(flags, 'model', 'logdir', 'dataset')
    from lingvo_lite.jobs.scoring import evaluation_pass, scorer

    asked = job_flags.Scoring(flags)
    if len(asked['choice'].checkpoints) > 1:
        raise hyperparams.ConfigError(
            'An evaler takes one --checkpoint; an ensemble is something to decode with.'
        )
    return scorer.Run(**asked, make_pass=evaluation_pass.EvaluationPass, folder=flags.folder)
