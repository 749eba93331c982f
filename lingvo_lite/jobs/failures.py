"""Errors whose message says all: a job that they end shows it without a stack trace."""

from __future__ import annotations

from lingvo_lite.inputs import pipeline, source
from lingvo_lite.jobs import mishaps
from lingvo_lite.runs import checkpoints, saving
from lingvo_lite.training import first_bad_layer

EXPECTED = (
    pipeline.InputError,
    source.BadRecordError,
    checkpoints.CorruptError,
    checkpoints.MismatchError,
    saving.SaveError,
    first_bad_layer.NotFiniteError,
    mishaps.LostWorkerError,
    mishaps.RemovedError,
    OSError,  # of a file, which its text names
)
