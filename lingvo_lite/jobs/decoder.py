"""The decoder: decodes a dataset with the checkpoints of a run."""

from __future__ import annotations

from typing import Optional

from lingvo_lite.jobs import choice as choice_lib
from lingvo_lite.jobs import configure, decoding, runtime, scoring


def Run(
    model: str,
    logdir: str,
    dataset: str,
    source: configure.Source,
    device: runtime.Wish,
    choice: choice_lib.Choice,
    folder: Optional[str] = None,
) -> int:
    """Writes RUN/decode_<dataset>. For the arguments see `scoring.Run`; returns the exit code."""
    return scoring.Run(
        decoding.DecodingPass, model, logdir, dataset, source, device, choice, folder
    )
