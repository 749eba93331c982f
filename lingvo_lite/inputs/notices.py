"""What is done to examples that nobody asked for: counted, and said with an example."""

from __future__ import annotations

import threading

from absl import logging


class Notice:
    """Counts the examples of one kind. Threads may note at the same time.

    Attributes:
      ids: of those noted.
    """

    def __init__(self, total: int):
        """total: number of examples, for messages."""
        self.ids: set[int] = set()
        self._total = total
        self._lock = threading.Lock()

    def Note(self, index: int, text: str) -> None:
        """Counts an example, once however often it is read; logs the first, 10th, 100th, ...

        Args:
          index: of the example.
          text: what was done to it, a sentence that names it.
        """
        with self._lock:
            if index in self.ids:
                return
            self.ids.add(index)
            count = len(self.ids)
        if str(count).rstrip('0') == '1':
            logging.warning('%s %s of %s examples so far.', text, f'{count:,}', f'{self._total:,}')
