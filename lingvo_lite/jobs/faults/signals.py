"""SIGTERM and Ctrl-C: asked to stop, not killed."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

_log = logging.getLogger(__name__)

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopRequest:
    """Set by the first SIGTERM or Ctrl-C; the second ends the process at once.

        with signals.StopRequest() as stop:
            while not stop.event.is_set(): ...
        return stop.exit_code

    Attributes:
      event: for loops and waits.
      exit_code: 143 after SIGTERM, 130 after Ctrl-C (as shells and Kubernetes expect), else 0.
    """

    def __init__(self, hint: str = 'Finishing what is at work'):
        """Args: hint: what happens next, for the log."""
        self.event = threading.Event()
        self.exit_code = 0
        self._hint = hint
        self._before: dict[int, Any] = {}

    def Set(self) -> None:
        """As SIGTERM: another worker got it."""
        self.exit_code = self.exit_code or EXIT_CODES[signal.SIGTERM]
        self.event.set()

    def TakeBack(self) -> None:
        """Takes the signals again from what has taken them since.

        With a cluster, TensorFlow installs a handler of SIGTERM that only notes that it came.
        """
        if self._before:
            for number in EXIT_CODES:
                signal.signal(number, self._Handle)

    def __enter__(self) -> StopRequest:
        # Handlers can be set in the main thread only; tests run jobs in others.
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                self._before[number] = signal.signal(number, self._Handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _Handle(self, number: int, frame: Any) -> None:
        if self.event.is_set():
            os._exit(EXIT_CODES[signal.Signals(number)])
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        self.event.set()
        _log.info('%s. %s; once more ends at once.', signal.Signals(number).name, self._hint)
