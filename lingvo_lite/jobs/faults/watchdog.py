"""Ends a process that hangs, and shows where: a lost worker must not make the others wait for ever.

What hangs is most often a collective that waits for a worker that was stopped, or whose machine
went away without a word. Only leaving the process gets out of that, so this does not raise.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from typing import Any, Optional

_log = logging.getLogger(__name__)

# Another start may well go on: Kubeflow's TFJob starts again what ends with 128 or more, and keeps
# 138 for jobs that ask for it.
EXIT_CODE = 138
# The first step is traced and compiled; and before it, a worker waits for the others to start.
_START_FACTOR = 5.0
_STDERR = 2  # not sys.stderr: a progress bar may stand in its place


class Watchdog:
    """Ends the process when no `Beat` has come for too long.

        with watchdog.Watchdog(1800.0) as dog:
            while ...:
                train()
                dog.Beat()

    Time in which the process did not run at all (SIGSTOP, a machine that slept) does not count, and
    neither does what the clock of the day does.

    TensorFlow lets go of Python's lock while it computes, but not while it waits for the workers of
    a cluster to start. Until the first beat there is a second watchdog therefore, which needs no
    lock: an alarm of the operating system, whose handler shows the stacks and lets SIGALRM end the
    process (142 in a shell).
    """

    def __init__(self, seconds: float):
        """Takes what is too long.

        Args:
          seconds: between two beats; the first may take five times as long. 0 for never.
        """
        self._seconds = seconds
        self._tick = min(1.0, seconds / 10)
        self._beats = 0
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def Beat(self) -> None:
        """Something was finished: a step, or a batch of an evaluation. Cheap."""
        self._beats += 1

    def __enter__(self) -> Watchdog:
        if self._seconds:
            faulthandler.register(signal.SIGALRM, _STDERR, all_threads=True, chain=True)
            signal.setitimer(signal.ITIMER_REAL, self._seconds * (_START_FACTOR + 1.0) + 1.0)
            self._thread = threading.Thread(target=self._Watch, name='watchdog', daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            _NoAlarm()

    def _Watch(self) -> None:
        seen = self._beats
        idle = 0.0
        before = time.monotonic()
        while not self._stop.wait(self._tick):
            now = time.monotonic()
            # A longer wait than was asked for: this thread, so the whole process, was not running.
            idle += min(now - before, 2 * self._tick)
            before = now
            if self._beats != seen:
                if not seen:
                    _NoAlarm()
                seen, idle = self._beats, 0.0
            elif idle > self._seconds * (1.0 if seen else _START_FACTOR):
                self._End(idle)

    def _End(self, idle: float) -> None:
        what = 'No step was finished' if self._beats else 'The first step was not reached'
        _log.error(
            '%s in %.0f s (task.train.watchdog_seconds=%g): ending with exit code %d. What hangs '
            'may be another worker, the disk or the data; started again, training goes on from the '
            'last checkpoint. All threads:',
            *(what, idle, self._seconds, EXIT_CODE),
        )
        faulthandler.dump_traceback(_STDERR, all_threads=True)
        os._exit(EXIT_CODE)


def _NoAlarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    faulthandler.unregister(signal.SIGALRM)
