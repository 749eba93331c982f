"""How many tokens each example has, known before anything is batched.

Order by length needs every length, and with SentencePiece only encoding the text tells it. So all
text is encoded once and the result kept in the cache folder (`tokens/<hash>.npz`), under a hash of
the text and the tokenizer. Of small corpora the ids are kept too, and the input then only copies.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any, Callable, Optional

import numpy as np
from absl import logging

from lingvo_lite.inputs import cache, source
from lingvo_lite.inputs.text import tokenizers

_VERSION = 1
_KEPT_TOKENS = 1 << 24  # a corpus of no more tokens keeps its ids: at most 64 MB
_LARGE = 100_000  # examples, from which on the log says what takes so long
_CHUNK = 2048  # examples that a thread encodes at once
_SCAN_EPOCH = -1  # random segmentations are measured on a draw that no epoch makes
_BAD = -1
_Chunked = tuple[np.ndarray, np.ndarray, dict[int, source.BadRecordError]]


class TokenTable:
    """Counts, and for small corpora ids, of the tokens of all examples; <s> and </s> left out.

    Attributes:
      counts: [examples, sides] int32; -1 in the row of a record that cannot be read.
      errors: {example: why it cannot be read}.
    """

    def __init__(
        self,
        counts: np.ndarray,
        ids: Optional[np.ndarray],
        errors: Optional[dict[int, source.BadRecordError]] = None,
    ):
        """Keeps all; ids holds those of all examples, side after side, in one row."""
        self.counts = counts
        self.errors = errors or {}
        self._ids: Any = ids
        ends = np.cumsum(np.maximum(counts, 0).ravel(), dtype=np.int64)
        self._starts = np.concatenate([[0], ends])

    @property
    def has_ids(self) -> bool:
        """Whether the ids were kept, as they are for small corpora."""
        return self._ids is not None

    def Arrays(self) -> dict[str, np.ndarray]:
        """What is kept of it in the cache."""
        return {'counts': self.counts, **({'ids': self._ids} if self.has_ids else {})}

    def Ids(self, index: int) -> Optional[list[np.ndarray]]:
        """The ids of each side of an example; None for a bad record. Needs `has_ids`."""
        if self.counts[index, 0] < 0:
            return None
        sides = self.counts.shape[1]
        cells = range(index * sides, (index + 1) * sides)
        return [self._ids[self._starts[cell] : self._starts[cell + 1]] for cell in cells]


def Build(
    count: int,
    sides: int,
    read: Callable[[int], Sequence[str]],
    tokenizer: tokenizers.BaseTokenizer,
    sample: bool,
    threads: int,
    fingerprint: Optional[str],
) -> TokenTable:
    """The table of a corpus, from the cache or by encoding all of it.

    Args:
      count: number of examples.
      sides: number of texts in each.
      read: the texts of an example; raises BadRecordError if it cannot be read. It is asked
        twice before an example is given up, since a disk may fail to answer once.
      tokenizer: encodes.
      sample: measure a random segmentation, as training with sampling makes, and keep no ids.
      threads: number of threads that encode.
      fingerprint: of what `read` gives, to find it in the cache; None: neither look nor keep.
    """

    def _Scan() -> TokenTable:
        return _Encoded(count, sides, read, tokenizer, sample, threads)

    def _Write(path: str) -> None:
        table = _Scan()
        if table.errors:
            raise _HasBadRecords(table)
        with open(path, 'wb') as file:
            np.savez(file, **table.Arrays())

    def _Read(path: str) -> TokenTable:
        with np.load(path, allow_pickle=False) as arrays:
            table = TokenTable(arrays['counts'], arrays['ids'] if 'ids' in arrays else None)
        if table.counts.shape != (count, sides):
            raise ValueError(f'it is about {table.counts.shape} texts, not {(count, sides)}')
        return table

    if fingerprint is None:
        return _Scan()
    encoding = tokenizer.SampleFingerprint() if sample else tokenizer.Fingerprint()
    key = cache.Key(_VERSION, fingerprint, encoding, sides, sample)
    try:
        return cache.Load(f'tokens/{key}.npz', _Write, _Read)
    except _HasBadRecords as bad:
        return bad.table


class _HasBadRecords(Exception):
    """A table that is not kept: a file that is repaired has the fingerprint that it had before."""

    def __init__(self, table: TokenTable):
        super().__init__()
        self.table = table


def _Encoded(
    count: int,
    sides: int,
    read: Callable[[int], Sequence[str]],
    tokenizer: tokenizers.BaseTokenizer,
    sample: bool,
    threads: int,
) -> TokenTable:
    """The table, with ids if they are to be kept. See `Build`."""
    errors: dict[int, source.BadRecordError] = {}

    def _Chunk(first: int) -> _Chunked:
        return _EncodeChunk(
            range(first, min(first + _CHUNK, count)), sides, read, tokenizer, sample
        )

    counts = np.full((count, sides), _BAD, np.int32)
    kept: Optional[list[np.ndarray]] = None if sample else [np.zeros(0, np.int32)]
    total = 0
    if count > _LARGE:
        logging.info('Counting the tokens of %s examples; this is done once.', f'{count:,}')
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for begin in range(0, count, _CHUNK * threads * 4):
            block = range(begin, min(begin + _CHUNK * threads * 4, count), _CHUNK)
            for first, (own, ids, bad) in zip(block, pool.map(_Chunk, block)):
                counts[first : first + len(own)] = own
                errors.update(bad)
                total += len(ids)
                kept = None if kept is None or total > _KEPT_TOKENS else [*kept, ids]
    if kept is None:
        return TokenTable(counts, None, errors)
    narrow = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32
    return TokenTable(counts, np.concatenate(kept).astype(narrow), errors)


def _EncodeChunk(
    indices: range,
    sides: int,
    read: Callable[[int], Sequence[str]],
    tokenizer: tokenizers.BaseTokenizer,
    sample: bool,
) -> _Chunked:
    """Counts [len(indices), sides] with -1 for bad records, all ids in one row, and the errors."""
    counts = np.full((len(indices), sides), _BAD, np.int32)
    errors: dict[int, source.BadRecordError] = {}
    good: list[int] = []
    texts: list[str] = []
    for row, index in enumerate(indices):
        try:
            texts += _ReadTwice(read, index)
            good.append(row)
        except source.BadRecordError as error:
            errors[index] = source.BadRecordError(str(error))  # without a traceback's variables
    if sample:
        ids = [indices[row] for row in good for _ in range(sides)]
        rows = tokenizer.Sample(texts, tokenizers.SampleSeeds(ids, _SCAN_EPOCH))
    else:
        rows = tokenizer.Encode(texts)
    counts[good] = np.array([len(row) for row in rows], np.int32).reshape(-1, sides)
    flat = np.fromiter((i for row in rows for i in row), np.int32, sum(map(len, rows)))
    return counts, flat, errors


def _ReadTwice(read: Callable[[int], Sequence[str]], index: int) -> Sequence[str]:
    try:
        return read(index)
    except source.BadRecordError:
        return read(index)
