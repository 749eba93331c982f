"""The evaler: scores the checkpoints of a run by the loss on a dataset."""

from __future__ import annotations

from typing import Optional

from lingvo_lite import hyperparams
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.scoring import evaluation_pass, scorer, weights


def Run(
    model: Optional[str],
    logdir: str,
    dataset: str,
    source: job_params.Source,
    device: runtime.Wish,
    choice: weights.Choice,
    folder: Optional[str] = None,
) -> int:
    """Writes RUN/eval_<dataset>. For the arguments see `scorer.Run`; returns the exit code."""
    if len(choice.checkpoints) > 1:
        raise hyperparams.ConfigError(
            'An evaler takes one --checkpoint; an ensemble is something to decode with.'
        )
    return scorer.Run(
        evaluation_pass.EvaluationPass, model, logdir, dataset, source, device, choice, folder
    )
