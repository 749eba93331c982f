"""Waiting for the checkpoints of a trainer in another process."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator
from typing import Callable

from lingvo_lite.runs.checkpoints import files

_log = logging.getLogger(__name__)


def Follow(
    source: str,
    own: str,
    done: Callable[[], Collection[int]],
    is_finished: Callable[[], bool],
    stop: threading.Event,
    poll_s: float = 1.0,
) -> Iterator[files.Checkpoint]:
    """Yields each checkpoint that is not done yet, the newest first, as a copy of one's own.

    The copy (hard links where possible) stays while the caller works on it, whatever the trainer
    deletes meanwhile; it goes when the next one is asked for. A checkpoint that is deleted before
    its turn comes is left out. One that the caller could make nothing of comes again only if it was
    written anew: a trainer that finds it damaged repeats its steps.

    Args:
      source: the trainer's folder.
      own: the caller's folder, which it holds the lock of; checkpoints found in it are removed.
      done: returns the steps that need no more work, for instance those in metrics.jsonl.
      is_finished: whether no checkpoint will come after those there are (`RunDir.IsFinished`).
      stop: ends the waiting when set.
      poll_s: how often to look, seconds.

    Yields:
      The copy. Ends after the last checkpoint of a finished training, or when `stop` is set.

    Raises:
      FileNotFoundError: if a folder is gone, so that no result could be kept, or nothing that is
        missing could still come.
    """
    given: dict[int, float] = {}  # step -> time of the checkpoint that was yielded
    os.makedirs(own, exist_ok=True)
    files.CleanUp(own)
    for leftover in files.List(own):
        files.Delete(leftover.prefix)
    waiting = False
    while not stop.is_set():
        # In this order: a trainer writes its last checkpoint before it says that it has finished.
        finished = is_finished()
        there = files.List(source)
        finished_steps = done()
        new = [
            found
            for found in there
            if found.step not in finished_steps and given.get(found.step) != found.time
        ]
        if not new:
            if not os.path.isdir(own):
                raise FileNotFoundError(f'{own} was removed.')
            if finished:
                if not is_finished():
                    raise FileNotFoundError(f'{source} was removed.')
                return
            if not waiting:
                _log.info('Waiting for a new checkpoint in %s.', source)
                waiting = True
            stop.wait(poll_s)
            continue
        waiting = False
        newest = new[-1]
        try:
            copy = files.LinkOrCopy(newest.prefix, own)
        except FileNotFoundError:
            _log.info('%s was deleted before its turn came.', newest.prefix)
            continue
        given[newest.step] = newest.time
        try:
            yield newest._replace(prefix=copy)
        finally:
            files.Delete(copy)
