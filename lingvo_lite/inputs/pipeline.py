"""From an order of ids to batches of arrays, ahead of their use.

    order -> ids of a global batch -> this worker's rows -> read, parse, encode -> padded arrays

Threads work on batches to come; the consumer gets them in order. What a batch holds, and that it is
the n-th, depends on the params and the data alone, not on workers, replicas or threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TypeVar, Union

import numpy as np
from absl import logging

from lingvo_lite import hyperparams, nested_map
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import feed, mixture_order, order as order_lib, source

AnyOrder = Union[order_lib.Order, mixture_order.Mixture]
_Input = TypeVar('_Input', bound='BaseInput')


class BaseInput:
    """A dataset: examples, and how they become batches.

    Subclasses say how long the examples are (`_Lengths`), read some of them (`_Load`) and lay them
    out in arrays (`_Collate`). Every batch holds `id` int64 [rows], the index of the example in
    the source or -1 in a fill row, and `row_weight` float32 [rows], 0.0 in a fill row.

    A record that cannot be read is a fill row too, is counted, and stops the input if there are
    more than `max_bad_records`. Each worker of a cluster counts what it has read; the count of
    worker 0 is part of the state that a run goes on from.
    """

    side_names: tuple[str, ...]  # of the columns of _Lengths, for messages

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = hyperparams.InstantiableParams(cls)
        p.Define(
            'tokens_per_batch',
            None,
            'Largest global batch in tokens (frames): rows x padded length, summed over source and '
            'target, padding included. None: no limit.',
            type=int,
        )
        p.Define(
            'batch_size',
            None,
            'Largest number of rows of a global batch. None: no limit.',
            type=int,
        )
        p.Define(
            'bucket_upper_bound',
            [],
            'Lengths that batches are padded to, increasing. Beyond the last (or if there is none) '
            'lengths are padded to multiples of 8.',
        )
        p.Define('sort_window', 65536, 'Training examples that are sorted by length together.')
        p.Define('random_seed', 0, 'Seed of shuffling and of random segmentation.')
        p.Define('num_batcher_threads', 2, 'Threads that make batches.', resume='free')
        p.Define(
            'max_bad_records',
            0,
            'Unreadable records that are skipped before the input stops with an error; in training '
            'over the whole run; on a cluster each worker counts what it reads, and a restart goes '
            'on from the count of worker 0.',
            resume='free',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if values do not fit."""
        if p.tokens_per_batch is None and p.batch_size is None:
            raise hyperparams.Fail(p, 'set tokens_per_batch, batch_size, or both.')
        hyperparams.RequireRange(
            p, 'tokens_per_batch', 'batch_size', 'sort_window', 'num_batcher_threads', at_least=1
        )
        hyperparams.RequireRange(p, 'max_bad_records', at_least=0)
        bounds = p.bucket_upper_bound
        rise = all(isinstance(b, int) for b in bounds) and all(
            a < b for a, b in zip([0, *bounds], bounds)
        )
        hyperparams.Require(p, rise, 'bucket_upper_bound', 'whole numbers that rise, from 1 on')

    def __init__(self, params: hyperparams.Params):
        self.params = params
        self._orders: dict[bool, AnyOrder] = {}
        self._bad: Optional[source.BadRecords] = None
        self._bad_lock = threading.Lock()

    # What subclasses say.

    def Vocabulary(self) -> str:
        """A hash of what the ids of the batches mean; '' if they have no tokens."""
        return ''

    def Tokens(self) -> list[str]:
        """The text of each id of the batches; [] if they have no tokens, or these no texts."""
        return []

    def NumExamples(self) -> int:
        """Number of examples in the source, those that training skips included."""
        raise NotImplementedError

    def Where(self, index: int) -> str:
        """File and record of an example, for messages."""
        raise NotImplementedError

    def Fingerprint(self) -> str:
        """A hash that is equal only if all records are; '' if that is not known.

        A run goes on only with the data that it was begun with.
        """
        return ''

    def _Lengths(self, train: bool) -> np.ndarray:
        """[examples, sides] in tokens or frames, as they will stand in the arrays."""
        raise NotImplementedError

    def _Usable(self, train: bool) -> np.ndarray:
        """[examples] bool: False for what is left out whatever its length."""
        del train
        return np.ones(self.NumExamples(), bool)

    def _MaxLengths(self) -> tuple[Optional[int], ...]:
        """The longest that training takes, for each side; None for no limit."""
        return (None,) * len(self.side_names)

    def _Load(self, ids: Sequence[int], plan: order_lib.PlannedBatch, train: bool) -> list[Any]:
        """Reads examples, in a worker thread; randomness depends on plan.source_epoch and id alone.

        Args:
          ids: of some rows of the batch.
          plan: of the whole batch.
          train: whether they are trained on.

        Returns:
          What `_Collate` takes, in the order of the ids; None for a bad record, counted elsewhere.
        """
        raise NotImplementedError

    def _Collate(self, examples: list[Any], padded: tuple[int, ...]) -> nested_map.NestedMap:
        """Arrays of these examples. None is a row of padding only.

        Args:
          examples: what `_Load` gave.
          padded: the planned length of each side.
        """
        raise NotImplementedError

    # What everybody else uses.

    def Order(self, train: bool) -> AnyOrder:
        """The order of the batches, planned from all lengths."""
        if train not in self._orders:
            self._orders[train] = self._MakeOrder(train)
        return self._orders[train]

    def Batches(
        self,
        num_workers: int = 1,
        worker: int = 0,
        replicas: int = 1,
        start: Optional[Mapping[str, Any]] = None,
        train: bool = True,
        num_samples: int = 0,
    ) -> feed.Feed:
        """Iterates over batches, from the first one or from `start` on.

        Row i of a global batch goes to replica i modulo (num_workers * replicas). All replicas get
        as many rows as the first one; what is missing is fill rows.

        Args:
          num_workers: number of processes that share each global batch.
          worker: which of them this is, from 0.
          replicas: devices of this worker.
          start: the `state` of a batch; the next one is the first to come. None: from the start.
          train: endless epochs, shuffled, without what is too long; otherwise every example
            exactly once, sorted by length, long ones first.
          num_samples: when not training, only so many examples, the first of the source; 0: all.

        Returns:
          An iterator of Batch, with `Close()`.

        Raises:
          ValueError: if `start` was saved with other data or params.
          BadRecordError: if there are more bad records than allowed.
        """
        if not 0 <= worker < num_workers or replicas < 1:
            raise ValueError(
                f'no rows for worker {worker} of {num_workers} with {replicas} replicas.'
            )
        few = num_samples and not train
        order = self._MakeOrder(train, num_samples) if few else self.Order(train)
        maker = feed.BatchMaker(self, num_workers * replicas, worker * replicas, replicas, train)
        start = start or {}
        data = self.Fingerprint() if train else ''
        if start.get('data', data) != data:
            raise ValueError(
                f'the data have changed since the position was saved ({start["data"]}, here '
                f'{data}): {self._Files()} is not what the run was begun with. Bring the files '
                'back as they were, or start a run of its own.'
            )
        for index in start.get('bad_records', ()):
            self._RestoreBad(int(index))
        plans = order.Walk(start if 'order' in start else None)
        return feed.Feed(maker, plans, data)

    def BadIds(self) -> set[int]:
        """The examples that could not be read so far, those of batches made ahead included."""
        return set() if self._bad is None else set(self._bad.ids)

    def _NoteBad(self, index: int, error: source.BadRecordError) -> None:
        """Counts a bad record. Raises BadRecordError if there are too many."""
        self._Counter().Note(int(index), error)

    def _RestoreBad(self, index: int) -> None:
        """Counts a record that was bad, and logged, before a restart."""
        self._Counter().ids.add(index)

    def _Counter(self) -> source.BadRecords:
        with self._bad_lock:
            if self._bad is None:
                limit, total = self.params.max_bad_records, self.NumExamples()
                self._bad = source.BadRecords(limit, total)
            return self._bad

    def _Files(self) -> str:
        """The name of the source, for messages."""
        return type(self).__name__

    def Arrays(
        self,
        plan: order_lib.PlannedBatch,
        num_workers: int = 1,
        worker: int = 0,
        replicas: int = 1,
    ) -> list[nested_map.NestedMap]:
        """One worker's part of a planned batch to train on, made at once, outside of the order.

        Args:
          plan: from `Order(True)`.
          num_workers, worker, replicas: as for `Batches`.

        Returns:
          A NestedMap of arrays a local replica, as in `Batch.replicas`.
        """
        maker = feed.BatchMaker(self, num_workers * replicas, worker * replicas, replicas, True)
        return maker.Parts(plan)[0]

    def _MakeOrder(self, train: bool, num_samples: int = 0) -> AnyOrder:
        p = self.params
        lengths, usable = self._Lengths(train), self._Usable(train)
        if num_samples:
            usable = usable & (np.arange(len(usable)) < num_samples)
        limits = order_lib.Limits(p.tokens_per_batch, p.batch_size, tuple(p.bucket_upper_bound))
        if train:
            self._LogSkipped(lengths, usable, limits)
        return order_lib.Order(
            lengths,
            limits,
            train=train,
            seed=p.random_seed,
            window=p.sort_window,
            max_lengths=self._MaxLengths(),
            usable=usable,
        )

    def _LogSkipped(
        self, lengths: np.ndarray, usable: np.ndarray, limits: order_lib.Limits
    ) -> None:
        """One warning line for each reason to leave examples out of training."""
        for side, most in enumerate(self._MaxLengths()):
            if most is not None:
                name = self.side_names[side]
                self._Warn(usable & (lengths[:, side] > most), lengths[:, side], f'{name} is', most)
        if limits.tokens is not None:
            cost = limits.RowCost(lengths)
            self._Warn(usable & (cost > limits.tokens), cost, 'padded row is', limits.tokens)

    def _Warn(self, skipped: np.ndarray, sizes: np.ndarray, what: str, most: int) -> None:
        if skipped.any():
            worst = int(np.argmax(np.where(skipped, sizes, -1)))
            logging.warning(
                '%s of %s examples are not trained on, because the %s longer than %s. Longest: %s, '
                'at %s.',
                *(f'{n:,}' for n in (int(skipped.sum()), len(skipped))),
                what,
                f'{most:,}',
                f'{int(sizes[worst]):,}',
                self.Where(worst),
            )

    def MakeRows(
        self, ids: Sequence[int], plan: order_lib.PlannedBatch, train: bool
    ) -> nested_map.NestedMap:
        """The arrays of some rows of a planned batch; ids may hold FILL."""
        real = [i for i in ids if i != feed.FILL]
        try:
            loaded = dict(zip(real, self._Load(real, plan, train)))
            examples = [loaded.get(i) for i in ids]
            batch = self._Collate(examples, plan.padded)
        except (source.BadRecordError, OSError):
            raise  # these name their place
        except Exception as error:
            raise feed.InputError(
                f'{self._Culprit(real, plan, train)}: {type(error).__name__}: {error}'
            ) from error
        found = np.array([example is not None for example in examples])
        batch.id = np.where(found, np.asarray(ids, np.int64), feed.FILL)
        batch.row_weight = found.astype(np.float32)
        return batch

    def _Culprit(self, ids: Sequence[int], plan: order_lib.PlannedBatch, train: bool) -> str:
        """The place of the first record that fails on its own, else of the whole batch."""
        for i in ids:
            try:
                self._Collate(self._Load([i], plan, train), plan.padded)
            except Exception:
                return self.Where(i)
        return f'batch {plan.index}, from {self.Where(ids[0])} on' if ids else f'batch {plan.index}'


def BatchLimits(params: hyperparams.Params) -> dict[str, int]:
    """{key below `params`: value} of what limits a batch of an input, or of each in a mixture."""
    if 'inputs' in params:
        return {
            f'inputs[{k}].{key}': value
            for k, inner in enumerate(params.inputs)
            for key, value in BatchLimits(inner).items()
        }
    limits = {key: params.Get(key) for key in ('tokens_per_batch', 'batch_size')}
    return {key: value for key, value in limits.items() if value is not None}


def ParamsLike(
    cls: type[_Input], dataset: hyperparams.Params, **values: Any
) -> hyperparams.InstantiableParams[_Input]:
    """Params of an input that reads files of one's own as a dataset reads its own.

    Args:
      cls: the input.
      dataset: Params that lend all values under keys that both have: tokenizer, batch size, ...
      **values: what is not lent.
    """
    p = cls.Params().Set(**values)
    shared = [key for key in p.GetKeys() if key in dataset and key not in values]
    return p.Set(**{key: dataset.Get(key) for key in shared})
