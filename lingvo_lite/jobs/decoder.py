"""The decoder: decodes a dataset with the checkpoints of a run."""

from __future__ import annotations

from typing import Optional

from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.scoring import decoding_pass, scorer, weights


def Run(
    model: Optional[str],
    logdir: str,
    dataset: str,
    source: job_params.Source,
    device: runtime.Wish,
    choice: weights.Choice,
    folder: Optional[str] = None,
) -> int:
    """Writes RUN/decode_<dataset>. For the arguments see `scorer.Run`; returns the exit code."""
    return scorer.Run(
        decoding_pass.DecodingPass, model, logdir, dataset, source, device, choice, folder
    )
