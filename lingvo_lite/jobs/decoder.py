"""The decoder: decodes a dataset with the checkpoints of a run."""

from __future__ import annotations

from typing import Any

from lingvo_lite.jobs.scoring import decoding_pass, scorer


def Run(**asked: Any) -> int:
    """Writes RUN/decode_<dataset>. Arguments as of `scorer.Run`; returns the exit code."""
    return scorer.Run(make_pass=decoding_pass.DecodingPass, **asked)
