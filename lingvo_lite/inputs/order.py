"""Which examples make up which batch: a pure function of (seed, epoch), computed, never stored.

    lengths          one row an example, one column a side (source, target; or frames, tokens)
      -> permutation of all examples that fit          drawn from (seed, epoch)
      -> windows of so many examples
      -> sorted by padded length inside each window
      -> global batches under a budget of tokens, padding included, and a largest number of rows
      -> the batches of the epoch in shuffled order    drawn from (seed, epoch)

The sequence of global batches knows nothing of workers, replicas or threads. A `Cursor` says where
in the sequence one stands; `Order.Walk` goes on from any cursor exactly as if never stopped.
Random bits are NumPy's raw Philox output, which is the same in every version of NumPy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_FINEST = 8  # tokens: the step between padded lengths where no bound is given
EXAMPLES, BATCHES, MIXTURE = 1, 2, 3  # streams of random bits: no two kinds of draw share one


def PaddedLengths(lengths: npt.ArrayLike, bounds: Sequence[int] = ()) -> Ints:
    """Rounds lengths up to the bucket boundary that they are padded to.

    Args:
      lengths: any shape, in tokens or frames.
      bounds: increasing bucket boundaries, each the largest length of its bucket. Beyond the last
        one (all lengths, if there is none) the boundaries are the multiples of 8.

    Returns:
      int64, of the same shape.
    """
    exact = np.asarray(lengths, np.int64)
    padded = -(-exact // _FINEST) * _FINEST
    if len(bounds):
        edges = np.asarray(bounds, np.int64)
        at = np.minimum(np.searchsorted(edges, exact), len(edges) - 1)
        padded = np.where(exact <= edges[-1], edges[at], padded)
    return padded


@dataclasses.dataclass(frozen=True)
class Limits:
    """How large a global batch may become.

    Attributes:
      tokens: the largest rows x (sum over sides of the padded length), or None for no limit.
      rows: the largest number of rows, or None for no limit.
      bounds: bucket boundaries, as for `PaddedLengths`.
    """

    tokens: Optional[int] = None
    rows: Optional[int] = None
    bounds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, limit in (('tokens', self.tokens), ('rows', self.rows)):
            if limit is not None and limit < 1:
                raise ValueError(f'the limit of {name} must be at least 1, got {limit}.')
        if self.tokens is None and self.rows is None:
            raise ValueError('a batch needs a limit of tokens, of rows, or both.')
        if any(b < 1 or b <= a for a, b in zip((0, *self.bounds), self.bounds)):
            raise ValueError(f'bucket boundaries must increase from 1 on, got {self.bounds}.')

    def RowCost(self, lengths: Ints) -> Ints:
        """Tokens of one row alone, padding included. lengths: [n, sides] -> [n]."""
        return np.asarray(PaddedLengths(lengths, self.bounds).sum(axis=1), np.int64)


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """One global batch before anything was read.

    Attributes:
      index: number of the global batch since the start of training, from 0.
      epoch: the pass over the data that it belongs to, from 0.
      ids: [rows] indices of its examples in the source.
      padded: the length that each side is padded to.
      num_tokens: tokens of all sides that are no padding.
      source_epoch: the pass over its own source, where several are mixed; else equal to epoch.
      after: the cursor behind this batch, to be saved with what was trained on it.
    """

    index: int
    epoch: int
    ids: Ints
    padded: tuple[int, ...]
    num_tokens: int
    source_epoch: int
    after: dict[str, Any]


def Bits(count: int, seed: int, stream: int, number: int) -> npt.NDArray[np.uint64]:
    """`count` random 64-bit integers that depend on nothing but the other arguments."""
    key = np.array([seed % 2**64, stream], np.uint64)
    counter = np.array([0, 0, number, 0], np.uint64)
    raw: npt.NDArray[np.uint64] = np.random.Philox(key=key, counter=counter).random_raw(count)
    return raw


def Permutation(count: int, seed: int, stream: int, number: int) -> Ints:
    """A random order of 0 .. count-1 that depends on nothing but the arguments."""
    order: Ints = np.argsort(Bits(count, seed, stream, number), kind='stable')
    return order


def SortByLength(ids: Ints, lengths: Ints, bounds: Sequence[int]) -> Ints:
    """Orders `ids` so that neighbours pad to the same or nearly the same lengths.

    The last side goes up through the buckets; the sides before it run up and down in turn, so that
    no step from one row to the next is large. Rows of one bucket keep the order that they came in.

    Args:
      ids: [m] indices into lengths.
      lengths: [n, sides].
      bounds: as for `PaddedLengths`.
    """
    padded = PaddedLengths(lengths[ids], bounds)
    keys = [padded[:, -1]]
    for side in range(padded.shape[1] - 2, -1, -1):
        bucket = np.unique(keys[-1], return_inverse=True)[1]
        keys.append(np.where(bucket % 2 == 0, padded[:, side], -padded[:, side]))
    ordered: Ints = ids[np.lexsort(keys[::-1])]
    return ordered


def Pack(lengths: Ints, limits: Limits) -> Ints:
    """Cuts a sequence of examples into batches, each as large as the limits allow.

    A row that is over the budget on its own becomes a batch of one.

    Args:
      lengths: [n, sides], in the order in which the examples are to be taken.
      limits: what a batch may hold.

    Returns:
      [batches + 1], where each batch starts, and n.
    """
    count = len(lengths)
    padded = PaddedLengths(lengths, limits.bounds)
    starts = [0]
    while starts[-1] < count:
        start = starts[-1]
        most = count - start if limits.rows is None else min(limits.rows, count - start)
        if limits.tokens is not None:
            most = max(1, min(most, limits.tokens // max(1, int(padded[start].sum()))))
            # cost[r]: of the first r + 1 rows, all padded to the longest of them. It never falls.
            widest = np.maximum.accumulate(padded[start : start + most], axis=0).sum(axis=1)
            cost = widest * np.arange(1, most + 1)
            most = max(1, int(np.searchsorted(cost, limits.tokens, side='right')))
        starts.append(start + most)
    return np.asarray(starts, np.int64)


def Largest(plans: Sequence[PlannedBatch]) -> PlannedBatch:
    """The batch that needs the most memory, as far as its shape can tell.

    Budgets make many batches almost equally large in tokens. Of those with 0.9 times the tokens of
    the largest, attention is the largest where the rows are long: by rows x length^2.
    """
    tokens = [len(plan.ids) * sum(plan.padded) for plan in plans]
    large = [plan for plan, each in zip(plans, tokens) if each >= 0.9 * max(tokens)]
    return max(large, key=lambda plan: len(plan.ids) * sum(length**2 for length in plan.padded))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The batches of one pass: batch b holds ids[starts[turn[b]] : starts[turn[b] + 1]]."""

    ids: Ints
    starts: Ints
    turn: Ints


class Order:
    """The sequence of global batches over one source.

    Attributes:
      skipped: ids of the examples that do not take part; the caller counts and logs them.
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        limits: Limits,
        *,
        train: bool,
        seed: int = 0,
        window: int = 65536,
        max_lengths: Sequence[Optional[int]] = (),
        usable: Optional[npt.ArrayLike] = None,
    ):
        """Plans nothing yet.

        Args:
          lengths: [n, sides] or [n], in tokens or frames.
          limits: what a batch may hold.
          train: endless shuffled epochs of the examples that fit; else one pass over all of them,
            longest first.
          seed: of the shuffling.
          window: examples that are sorted together.
          max_lengths: the largest length on each side that is trained on; None for no limit.
          usable: [n] bool, False for what is never served (empty or unreadable records).

        Raises:
          ValueError: if no example is left to train on.
        """
        self._lengths = np.asarray(lengths, np.int64)
        if self._lengths.ndim == 1:
            self._lengths = self._lengths[:, None]
        self._limits, self._train, self._seed, self._window = limits, train, seed, window
        keep = np.ones(len(self._lengths), bool)
        if usable is not None:
            keep &= np.asarray(usable, bool)
        if train:
            keep &= self._Fitting(max_lengths)
        self._kept = np.flatnonzero(keep)
        self.skipped: Ints = np.flatnonzero(~keep)
        if train and not len(self._kept):
            raise ValueError(
                f'none of the {len(self._lengths):,} examples can be trained on: they are empty, '
                f'or longer than the largest lengths {tuple(max_lengths)}, or than a batch of '
                f'{limits.tokens} tokens.'
            )
        self._lock = threading.Lock()
        self._epochs: dict[int, _Plan] = {}
        self.fingerprint = self._Fingerprint()

    def Ahead(self, cursor: Mapping[str, Any]) -> None:
        """Computes the epoch after that of `cursor`, if nobody is doing so; for worker threads."""
        if self._train and self._lock.acquire(blocking=False):
            try:
                self._Cached(int(cursor['epoch']) + 1)
            finally:
                self._lock.release()

    def Walk(self, start: Optional[Mapping[str, Any]] = None) -> Iterator[PlannedBatch]:
        """The batches from a cursor on; from the first one if there is none.

        Raises:
          ValueError: if the cursor was made by an order over other data or with other limits.
        """
        index, epoch, batch = self._Read(start)
        while self._train or epoch == 0:
            plan = self._Epoch(epoch)
            while batch < len(plan.turn):
                at = plan.turn[batch]
                ids = plan.ids[plan.starts[at] : plan.starts[at + 1]]
                own = self._lengths[ids]
                batch, index = batch + 1, index + 1
                last = batch == len(plan.turn)
                after = {
                    'index': index,
                    'epoch': epoch + 1 if last else epoch,
                    'batch': 0 if last else batch,
                    'order': self.fingerprint,
                }
                widest = PaddedLengths(own.max(axis=0), self._limits.bounds)
                padded = tuple(int(length) for length in widest)
                total = int(own.sum())
                yield PlannedBatch(index - 1, epoch, ids, padded, total, epoch, after)
            epoch, batch = epoch + 1, 0

    def Buckets(self) -> list[PlannedBatch]:
        """Of each padded shape among the batches of the first epoch, one with the most rows.

        Sorted by padded lengths. They are served by `Walk` in their turn: `after` is the start.
        """
        plan = self._Epoch(0)
        if not len(plan.turn):
            return []
        longest = np.maximum.reduceat(self._lengths[plan.ids], plan.starts[:-1], axis=0)
        padded = PaddedLengths(longest, self._limits.bounds)
        shapes, bucket = np.unique(padded, axis=0, return_inverse=True)
        by_rows = np.lexsort((-np.diff(plan.starts), bucket.reshape(-1)))
        first = np.unique(bucket.reshape(-1)[by_rows], return_index=True)[1]
        found = []
        for shape, at in zip(shapes, by_rows[first]):
            ids = plan.ids[plan.starts[at] : plan.starts[at + 1]]
            total = int(self._lengths[ids].sum())
            start = {'index': 0, 'epoch': 0, 'batch': 0, 'order': self.fingerprint}
            found.append(PlannedBatch(0, 0, ids, tuple(map(int, shape)), total, 0, start))
        return found

    def _Fitting(self, max_lengths: Sequence[Optional[int]]) -> npt.NDArray[np.bool_]:
        fits = np.ones(len(self._lengths), bool)
        for side, most in enumerate(max_lengths):
            if most is not None:
                fits &= self._lengths[:, side] <= most
        if self._limits.tokens is not None:
            fits &= self._limits.RowCost(self._lengths) <= self._limits.tokens
        return fits

    def _Read(self, start: Optional[Mapping[str, Any]]) -> tuple[int, int, int]:
        if start is None:
            return 0, 0, 0
        if start.get('order') != self.fingerprint:
            raise ValueError(
                f'the saved position in the data belongs to another order ({start.get("order")}, '
                f'here {self.fingerprint}): the data, the tokenizer, or a param of the input that '
                'decides which examples share a batch has changed. Take the change back, or start '
                'a run of its own.'
            )
        return int(start['index']), int(start['epoch']), int(start['batch'])

    def _Epoch(self, epoch: int) -> _Plan:
        with self._lock:
            return self._Cached(epoch)

    def _Cached(self, epoch: int) -> _Plan:
        if epoch not in self._epochs:
            for old in [e for e in self._epochs if not epoch - 1 <= e <= epoch + 1]:
                del self._epochs[old]
            self._epochs[epoch] = self._Compute(epoch)
        return self._epochs[epoch]

    def _Compute(self, epoch: int) -> _Plan:
        bounds = self._limits.bounds
        if not self._train:
            ids = SortByLength(self._kept, self._lengths, bounds)[::-1]
            starts = Pack(self._lengths[ids], self._limits)
            return _Plan(ids, starts, np.arange(len(starts) - 1))
        mixed = self._kept[Permutation(len(self._kept), self._seed, EXAMPLES, epoch)]
        pieces, cuts = [], [np.zeros(1, np.int64)]
        for first in range(0, len(mixed), self._window):
            ids = SortByLength(mixed[first : first + self._window], self._lengths, bounds)
            pieces.append(ids)
            cuts.append(first + Pack(self._lengths[ids], self._limits)[1:])
        starts = np.concatenate(cuts)
        turn = Permutation(len(starts) - 1, self._seed, BATCHES, epoch)
        return _Plan(np.concatenate(pieces), starts, turn)

    def _Fingerprint(self) -> str:
        """Equal only if the sequence of batches is."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr((self._limits, self._train, self._seed, self._window)).encode())
        digest.update(np.ascontiguousarray(self._lengths).tobytes())
        digest.update(self._kept.tobytes())
        return digest.hexdigest()
