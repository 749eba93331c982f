r"""ARPA files: back-off n-gram models as text, as SRILM, KenLM and others write them.

    \data\
    ngram 1=4
    ngram 2=2

    \1-grams:
    -99     <s>     -0.3        log10 probability, word, log10 back-off weight (may be missing)
    -1.2    </s>
    -0.9    a       -0.1
    -0.6    b

    \2-grams:
    -0.2    <s> a
    -0.5    a b

    \end\

Fields are separated by spaces or tabs and by nothing else: a word may hold a no-break space. An
n-gram needs its context, all but its last word, among the (n-1)-grams.
"""

from __future__ import annotations

import dataclasses
import gzip
import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

BOS, EOS, UNK = '<s>', '</s>', '<unk>'

_COUNT = re.compile(r'ngram[ \t]+([0-9]+)[ \t]*=[ \t]*([0-9]+)')
_SECTION = re.compile(r'\\([0-9]+)-grams:')
_NUMBER = re.compile(r'[-+]?[0-9.]+([eE][-+]?[0-9]+)?|[-+]?inf', re.IGNORECASE)
_BETWEEN = re.compile('[ \t]+')  # fields
_LOG_10 = math.log(10.0)
# Of the unknown word in a file that has none, as KenLM has it; base 10.
_MISSING_UNK = -100.0


class ArpaError(ValueError):
    """A file that is no ARPA file, or a damaged one. The message names file and line."""


@dataclasses.dataclass(frozen=True)
class Arpa:
    """What an ARPA file says.

    Attributes:
      path: of the file.
      words: all words; UNK is among them, at the end if the file does not have it.
      ngrams: for n = 1, 2, ...: int32 [count, n], numbers of words.
      log_probs: for each n: float32 [count], natural logarithm of P(last word | the others).
      backoffs: for each n: float32 [count], natural logarithm of the back-off weight.
      lines: for each n: int64 [count], where in the file they stand.
    """

    path: str
    words: list[str]
    ngrams: list[np.ndarray]
    log_probs: list[np.ndarray]
    backoffs: list[np.ndarray]
    lines: list[np.ndarray]

    @property
    def order(self) -> int:
        """The n of the longest n-grams."""
        return len(self.ngrams)

    def Show(self, ngram: np.ndarray) -> str:
        """The words of an n-gram, for messages."""
        return repr(' '.join(self.words[i] for i in ngram))

    def Error(self, n: int, row: int, what: str) -> ArpaError:
        """An error about one of the n-grams."""
        return ArpaError(f'{self.path}, line {self.lines[n - 1][row]:,}: {what}.')


def Read(path: str) -> Arpa:
    """Reads a file, plain or .gz.

    Raises:
      FileNotFoundError: if there is none.
      ArpaError: if it cannot be read as an ARPA file.
    """
    return _Reader(path).Read()


class _Reader:
    """Reads one file, line by line."""

    def __init__(self, path: str):
        self._path = path
        self._number = 0
        self._words: dict[str, int] = {}

    def Read(self) -> Arpa:
        with open(self._path, 'rb') as file:
            zipped = file.read(2) == b'\x1f\x8b'
        opened = gzip.open(self._path, 'rb') if zipped else open(self._path, 'rb')
        with opened as file:
            lines = self._Lines(file)
            counts, line = self._Header(lines)
            found = Arpa(self._path, [], [], [], [], [])
            for n, count in enumerate(counts, 1):
                match = _SECTION.fullmatch(line)
                if not match or int(match[1]) != n:
                    raise self._Error(f'\\{n}-grams: is expected here, not {line!r}')
                line = self._Section(lines, n, count, n == len(counts), found)
            if line != '\\end\\':
                raise self._Error(f'\\end\\ is expected here, not {line!r}')
        found.words.extend(self._words)
        return found

    def _Header(self, lines: Iterator[str]) -> tuple[list[int], str]:
        """The counts of all orders, and the line behind them."""
        for line in lines:
            if line == '\\data\\':
                break
        else:
            raise ArpaError(f'{self._path} is no ARPA file: it has no line \\data\\.')
        counts: list[int] = []
        for line in lines:
            match = _COUNT.fullmatch(line)
            if not match:
                break
            if int(match[1]) != len(counts) + 1:
                raise self._Error(f'ngram {len(counts) + 1}=... is expected here, not {line!r}')
            counts.append(int(match[2]))
        else:
            raise self._Error('the file ends behind \\data\\')
        if not counts:
            raise self._Error(f'ngram 1=... is expected here, not {line!r}')
        return counts, line

    def _Section(self, lines: Iterator[str], n: int, count: int, last: bool, found: Arpa) -> str:
        """Reads the n-grams into `found` and returns the line behind them."""
        ngrams = np.zeros([count, n], np.int32)
        log_probs, backoffs = np.zeros(count, np.float32), np.zeros(count, np.float32)
        numbers = np.zeros(count, np.int64)
        row, end = 0, None
        for line in lines:
            if line.startswith('\\'):
                end = line
                break
            if row == count:
                raise self._Error(f'more {n}-grams than the {count:,} that \\data\\ names')
            ngrams[row], log_probs[row], backoffs[row] = self._Entry(line, n, last)
            numbers[row] = self._number
            row += 1
        if end is None or row < count:
            place = 'the file ends' if end is None else f'{end} stands here'
            raise self._Error(f'{place} after {row:,} of {count:,} {n}-grams')
        if n == 1 and UNK not in self._words:
            self._words[UNK] = count
            ngrams = np.concatenate([ngrams, [[count]]]).astype(np.int32)
            log_probs = np.append(log_probs, np.float32(_MISSING_UNK * _LOG_10))
            backoffs = np.append(backoffs, np.float32(0))
            numbers = np.append(numbers, 0)
        found.ngrams.append(ngrams)
        found.log_probs.append(log_probs)
        found.backoffs.append(backoffs)
        found.lines.append(numbers)
        return end

    def _Entry(self, line: str, n: int, last: bool) -> tuple[list[int], float, float]:
        """Word numbers, log-probability and back-off weight of a line."""
        fields = _BETWEEN.split(line)
        if len(fields) != n + 1 and (last or len(fields) != n + 2):
            wanted = f'a log10 probability and {n} word{"s" if n > 1 else ""}'
            more = '' if last else ', perhaps a back-off weight'
            raise self._Error(f'{wanted}{more} are expected, not {line!r}')
        log_prob = self._Float(fields[0], 'log10 probability')
        if log_prob > 0:
            raise self._Error(f'a log10 probability is at most 0, not {fields[0]}')
        backoff = self._Float(fields[n + 1], 'back-off weight') if len(fields) > n + 1 else 0.0
        words = fields[1 : n + 1]
        if n == 1:
            word = UNK if words[0] == '<UNK>' else words[0]
            if word in self._words:
                raise self._Error(f'the word {word!r} stands twice')
            self._words[word] = len(self._words)
            words = [word]
        known = [UNK if word == '<UNK>' else word for word in words]
        missing = [word for word, name in zip(words, known) if name not in self._words]
        if missing:
            raise self._Error(f'{missing[0]!r} is not among the 1-grams')
        numbers = [self._words[name] for name in known]
        return numbers, log_prob * _LOG_10, backoff * _LOG_10

    def _Float(self, text: str, what: str) -> float:
        try:
            value = float(text) if _NUMBER.fullmatch(text) else math.nan
        except ValueError:
            value = math.nan
        if math.isnan(value) or value == math.inf:
            raise self._Error(f'{text!r} is no {what}')
        # -inf, which some tools write for 0, would make differences of scores undefined.
        return max(value, _MISSING_UNK)

    def _Lines(self, file: Iterable[bytes]) -> Iterator[str]:
        """Lines that are not empty, stripped; `_number` is that of the last one."""
        try:
            for self._number, line in enumerate(file, 1):
                # Of what is white only this: a word may be a no-break space.
                text = line.decode('utf-8').strip(' \t\r\n')
                if text:
                    yield text
        except UnicodeDecodeError as error:
            raise self._Error(f'not UTF-8 ({error.reason})') from None
        except (EOFError, gzip.BadGzipFile, OSError) as error:
            raise self._Error(f'cannot be read further: {error}') from None

    def _Error(self, what: str) -> ArpaError:
        return ArpaError(f'{self._path}, line {self._number:,}: {what}.')
