"""Errors whose message says all: a job that they end shows it without a stack trace."""

from __future__ import annotations

from lingvo_lite.inputs import feed, source
from lingvo_lite.jobs.faults import lost_resources
from lingvo_lite.runs.checkpoints import saver, tensors
from lingvo_lite.training.debugging import first_bad_layer

EXPECTED = (
    feed.InputError,
    source.BadRecordError,
    tensors.CorruptError,
    tensors.MismatchError,
    saver.SaveError,
    first_bad_layer.NotFiniteError,
    lost_resources.LostWorkerError,
    lost_resources.RemovedError,
    OSError,  # of a file, which its text names
)
