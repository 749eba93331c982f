"""Waiting for the checkpoints of a trainer in another process."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator
from typing import Callable

from lingvo_lite.runs import checkpoint_files

_log = logging.getLogger(__name__)


def Follow(
    source: str,
    own: str,
    done: Collection[int],
    is_finished: Callable[[], bool],
    stop: threading.Event,
    poll_s: float = 1.0,
) -> Iterator[checkpoint_files.Checkpoint]:
    """Yields each checkpoint that is not done yet, the newest first, as a copy of one's own.

    The copy (hard links where possible) stays while the caller works on it, whatever the trainer
    deletes meanwhile; it goes when the next one is asked for. A checkpoint that is deleted before
    its turn comes is left out.

    Args:
      source: the trainer's folder.
      own: the caller's folder, which it holds the lock of; checkpoints found in it are removed.
      done: the steps that need no more work, for instance `metrics_log.Steps(...)`.
      is_finished: whether no checkpoint will come after those there are (`RunDir.IsFinished`).
      stop: ends the waiting when set.
      poll_s: how often to look, seconds.

    Yields:
      The copy. Ends after the last checkpoint of a finished training, or when `stop` is set.
    """
    done = set(done)
    os.makedirs(own, exist_ok=True)
    checkpoint_files.CleanUp(own)
    for leftover in checkpoint_files.List(own):
        checkpoint_files.Delete(leftover.prefix)
    waiting = False
    while not stop.is_set():
        # In this order: a trainer writes its last checkpoint before it says that it has finished.
        finished = is_finished()
        new = [found for found in checkpoint_files.List(source) if found.step not in done]
        if not new:
            if finished:
                return
            if not waiting:
                _log.info('Waiting for a new checkpoint in %s.', source)
                waiting = True
            stop.wait(poll_s)
            continue
        waiting = False
        newest = new[-1]
        try:
            copy = checkpoint_files.LinkOrCopy(newest.prefix, own)
        except FileNotFoundError:
            _log.info('%s was deleted before its turn came.', newest.prefix)
            continue
        done.add(newest.step)
        try:
            yield newest._replace(prefix=copy)
        finally:
            checkpoint_files.Delete(copy)
