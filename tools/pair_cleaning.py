r"""What makes a sentence pair fit to train on.

Clean('two  dogs\tplay \u200b') -> 'two dogs play'
Rules().Reason('two dogs', '') -> 'empty side'
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Optional

import numpy as np

EMPTY = 'empty side'
COPY = 'source equals target'
LONG = 'too long'
RATIO = 'length ratio'
DUPLICATE = 'duplicate'
REASONS = (EMPTY, COPY, LONG, RATIO, DUPLICATE)  # in the order in which they are looked for

# Control characters, and the line and paragraph separators of Unicode, separate words ...
_SEPARATORS = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')
# ... soft hyphen, zero-width space, word joiner and byte order mark do not.
_INVISIBLE = re.compile('[\u00ad\u200b\u2060\ufeff]')


@dataclasses.dataclass(frozen=True)
class Rules:
    """Limits on the sides of a pair, in words (what white space separates).

    Attributes:
      max_words: most words of a side.
      max_ratio: the longer side has at most max_ratio x the words of the shorter one, and `slack`
        more: 'Danke' for 'Thank you very much' is no bad translation.
      slack: in words.
    """

    max_words: int = 250
    max_ratio: float = 2.0
    slack: int = 3

    def Reason(self, source: str, target: str) -> Optional[str]:
        """Why a pair, `Clean`ed, is left out; None if it is not. Knows nothing of duplicates."""
        if not source or not target:
            return EMPTY
        if source == target:
            return COPY
        fewer, more = sorted((source.count(' ') + 1, target.count(' ') + 1))
        if more > self.max_words:
            return LONG
        return RATIO if more > self.max_ratio * fewer + self.slack else None


def Clean(text: str) -> str:
    """Unicode NFC, without control and invisible characters, words separated by one space."""
    if not text.isascii():
        text = unicodedata.normalize('NFC', _INVISIBLE.sub('', text))
    return ' '.join(_SEPARATORS.sub(' ', text).split())


def PairHash(source: str, target: str) -> int:
    """64 bits. That any two of five million different pairs share theirs has probability 1e-6."""
    # No cleaned text holds a line end.
    digest = hashlib.blake2b(f'{source}\n{target}'.encode(), digest_size=8)
    return int.from_bytes(digest.digest(), 'little')


class Selection:
    """Which pairs of a corpus are kept, and why the others are not.

    Holds 9 bytes a pair, not the text.
    """

    def __init__(self, rules: Rules, num_pairs: int):
        self._rules = rules
        self._hashes = np.zeros(num_pairs, np.uint64)
        self._reasons = np.zeros(num_pairs, np.uint8)  # 0, or a place in REASONS from 1 on

    def Scan(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Looks at all pairs, cleaned, in order. Of duplicates the first one is kept."""
        for i, (source, target) in enumerate(pairs):
            reason = self._rules.Reason(source, target)
            if reason is None:
                self._hashes[i] = PairHash(source, target)
            else:
                self._reasons[i] = 1 + REASONS.index(reason)
        candidates = np.flatnonzero(self._reasons == 0)
        _, first = np.unique(self._hashes[candidates], return_index=True)
        again = np.ones(len(candidates), bool)
        again[first] = False
        self._reasons[candidates[again]] = 1 + REASONS.index(DUPLICATE)

    @property
    def kept(self) -> np.ndarray:
        """Numbers of the pairs that are kept, increasing."""
        return np.flatnonzero(self._reasons == 0)

    def Dropped(self) -> dict[str, int]:
        """{reason: number of pairs}, for all reasons."""
        counts = np.bincount(self._reasons, minlength=1 + len(REASONS))
        return {reason: int(n) for reason, n in zip(REASONS, counts[1:])}
