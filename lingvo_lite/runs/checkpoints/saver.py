"""Saving checkpoints while training goes on, and keeping the right ones."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Collection, Mapping
from typing import Any, Callable, Optional

import tensorflow as tf

from lingvo_lite.runs.checkpoints import files, tensors


class SaveError(RuntimeError):
    """A checkpoint could not be written in the background."""


@dataclasses.dataclass(frozen=True)
class KeepPolicy:
    """Which checkpoints of a folder stay.

    Attributes:
      last: the newest ones, at least 1.
      every_n_hours: besides, the first checkpoint and then one every so many hours, by the time
        that they were written; 0 for none.
      protect: besides, the steps that this returns when called with all steps there are, for
        instance those that an evaler has still to score.
    """

    last: int = 5
    every_n_hours: float = 0.0
    protect: Optional[Callable[[list[int]], Collection[int]]] = None

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f'At least 1 checkpoint must be kept, got last={self.last}.')
        if self.every_n_hours < 0:
            raise ValueError(f'every_n_hours must not be negative, got {self.every_n_hours}.')

    def ToDelete(self, found: list[files.Checkpoint]) -> list[files.Checkpoint]:
        """Those of `found` (by step, oldest first) that need not stay."""
        kept = {checkpoint.step for checkpoint in found[-self.last :]}
        if self.every_n_hours and found:
            # Only what stays decides about what comes after it, so a restarted trainer, which sees
            # just what stayed, decides the same. A clock that was set back starts a new count.
            at = found[0].time
            kept.add(found[0].step)
            for checkpoint in found:
                if not 0 <= checkpoint.time - at < 3600 * self.every_n_hours:
                    at = checkpoint.time
                    kept.add(checkpoint.step)
        if self.protect is not None:
            kept.update(self.protect([checkpoint.step for checkpoint in found]))
        return [checkpoint for checkpoint in found if checkpoint.step not in kept]


class AsyncSaver:
    """Writes the checkpoints of a folder, one at a time, in a thread of its own."""

    def __init__(self, folder: str, keep: KeepPolicy):
        """Makes the folder and removes what a killed writer left in it."""
        self._folder = folder
        self._keep = keep
        self._thread: Optional[threading.Thread] = None
        self._failure: Optional[SaveError] = None
        os.makedirs(folder, exist_ok=True)
        files.CleanUp(folder)

    def Save(self, step: int, values: Mapping[str, Any]) -> str:
        """Copies the values now and writes them in the background.

        Waits first for a write that is in flight, so that at most one copy is in memory.

        Args:
          step: the number of the checkpoint.
          values: see `tensors.Snapshot`.

        Returns:
          The prefix that the checkpoint will have.

        Raises:
          SaveError: if the write before this failed.
        """
        self.Wait()
        prefix = files.PrefixOf(self._folder, step)
        # Not a daemon: a process that ends normally finishes the write.
        self._thread = threading.Thread(
            target=self._Write, args=(prefix, tensors.Snapshot(values)), name='checkpoint'
        )
        self._thread.start()
        return prefix

    def Check(self) -> None:
        """Raises SaveError, once, if a write has failed. Does not wait."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def Wait(self) -> None:
        """Waits until nothing is in flight; then as `Check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.Check()

    def _Write(self, prefix: str, snapshot: dict[str, tf.Tensor]) -> None:
        try:
            tensors.Write(prefix, snapshot)
            snapshot.clear()
            for old in self._keep.ToDelete(files.List(self._folder)):
                files.Delete(old.prefix)
            files.WriteState(self._folder)
        except BaseException as error:
            reason = ' '.join(str(getattr(error, 'message', error)).split())
            whole = files.Latest(self._folder)
            left = f'the last whole one, {whole.prefix}' if whole else 'the beginning'
            self._failure = SaveError(
                f'Checkpoint {prefix} could not be written: {reason.rstrip(".")}. '
                f'Started again, training goes on from {left}.'
            )
            self._failure.__cause__ = error
