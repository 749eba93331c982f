"""The evaler: scores the checkpoints of a run by the loss on a dataset."""

from __future__ import annotations

from typing import Any

from lingvo_lite import hyperparams
from lingvo_lite.jobs.scoring import evaluation_pass, scorer


def Run(**asked: Any) -> int:
    """Writes RUN/eval_<dataset>. Arguments as of `scorer.Run`; returns the exit code."""
    if len(asked['choice'].checkpoints) > 1:
        raise hyperparams.ConfigError(
            'An evaler takes one --checkpoint; an ensemble is something to decode with.'
        )
    return scorer.Run(make_pass=evaluation_pass.EvaluationPass, **asked)
