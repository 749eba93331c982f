"""What happens to a job from outside: another worker goes away, or the log directory does.

Neither is found where it happens; the first thing that fails then says something else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

from lingvo_lite.jobs.faults import watchdog
from lingvo_lite.runs import rundir

# What TensorFlow makes of a connection that is closed, refused or silent.
_OF_CONNECTIONS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
_ABORTED = 'Collective ops is aborted'


class LostWorkerError(RuntimeError):
    """Another worker of the cluster is gone, so this one cannot go on."""

    exit_code = watchdog.EXIT_CODE


class RemovedError(RuntimeError):
    """The log directory is gone."""


@contextlib.contextmanager
def LogDirectory(run: rundir.RunDir, folder: str) -> Iterator[None]:
    """Errors that come from the removal of the log directory say so.

    Args:
      run: the log directory.
      folder: that the job has made in it.

    Raises:
      RemovedError: instead of any error, if the folder is gone.
    """
    try:
        yield
    except Exception as error:
        if os.path.isdir(folder):
            raise
        raise RemovedError(
            f'{folder} was removed, or its file system is gone: nothing more can be saved. '
            f'A new start finds what is left of {run.path}, or begins anew.'
        ) from error


@contextlib.contextmanager
def Cluster(num_workers: int) -> Iterator[None]:
    """Errors that come from the loss of another worker say so.

    Args:
      num_workers: in the cluster.

    Raises:
      LostWorkerError: instead of an error of a connection, if there are several.
    """
    try:
        yield
    except tf.errors.OpError as error:
        text = ' '.join(str(error.message).split())
        if num_workers < 2 or not _IsOfConnection(error, text):
            raise
        raise LostWorkerError(
            'Another worker is gone, or cannot be reached. Start all workers again: training goes '
            f'on from the last checkpoint. ({_Reason(text)})'
        ) from error


def _Reason(text: str) -> str:
    """The end of the message: what stands before it is where in the graph it was noticed."""
    _, aborted, reason = text.rpartition(_ABORTED)
    return (aborted + reason)[:200].strip()


def _IsOfConnection(error: tf.errors.OpError, text: str) -> bool:
    return isinstance(error, _OF_CONNECTIONS) or _ABORTED in text
