"""--profile_steps=A,B: what the trainer does from step A to step B, for TensorBoard."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Optional

import tensorflow as tf

_log = logging.getLogger(__name__)


class Profiler:
    """Profiles a range of steps; without one it does nothing."""

    def __init__(self, folder: str, steps: Optional[tuple[int, int]]):
        """Args: folder: where TensorBoard looks. steps: the first and the last one; or None."""
        self._folder = folder
        self._steps = steps
        self._running = False

    def Step(self, step: int) -> Any:
        """A context for the step that is about to be made."""
        if not self._steps or not self._steps[0] <= step <= self._steps[1]:
            return contextlib.nullcontext()
        if not self._running:
            tf.profiler.experimental.start(self._folder)
            self._running = True
        return tf.profiler.experimental.Trace('train', step_num=step, _r=1)

    def After(self, step: int, result: Any) -> None:
        """The step is made; `result` is waited for if it is the last one to profile."""
        if self._running and self._steps and step >= self._steps[1]:
            result.Read()
            self.Close()

    def Close(self) -> None:
        """Writes what there is of a profile."""
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()
            _log.info('The profile is in %s.', self._folder)
