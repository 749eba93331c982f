"""The evaler: scores the checkpoints of a run by the loss on a dataset."""

from __future__ import annotations

from typing import Optional

from lingvo_lite import hyperparams
from lingvo_lite.jobs import choice as choice_lib
from lingvo_lite.jobs import configure, evaluating, runtime, scoring


def Run(
    model: str,
    logdir: str,
    dataset: str,
    source: configure.Source,
    device: runtime.Wish,
    choice: choice_lib.Choice,
    folder: Optional[str] = None,
) -> int:
    """Writes RUN/eval_<dataset>. For the arguments see `scoring.Run`; returns the exit code."""
    if len(choice.checkpoints) > 1:
        raise hyperparams.ConfigError(
            'An evaler takes one --checkpoint; an ensemble is something to decode with.'
        )
    return scoring.Run(
        evaluating.EvaluationPass, model, logdir, dataset, source, device, choice, folder
    )
