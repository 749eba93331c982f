"""Batches of arrays, made ahead of their use by threads and handed out in order."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from lingvo_lite import nested_map
from lingvo_lite.inputs import order as order_lib

FILL = -1  # the id of a row that is there only to give all replicas the same number of rows
_AHEAD = 8  # batches that are made ahead of the one in use


class InputError(RuntimeError):
    """Making a batch failed. The message names file and record."""


@dataclasses.dataclass
class Batch:
    """One worker's part of a global batch.

    Attributes:
      index: number of the global batch since the start of training, from 0.
      epoch: the pass over the data that it belongs to, from 0.
      state: JSON-able; `Batches(start=state)` goes on behind this batch.
      replicas: one NestedMap of arrays a local replica, all with the same number of rows.
      num_examples: rows of the global batch, fill rows left out.
      num_tokens: tokens (frames) of the global batch on all sides, padding left out, as planned
        (random segmentations may have fewer).
      bad_ids: examples of this part that could not be read; fill rows stand in their place.
      num_bad: bad records that this worker has met so far, those of earlier runs from whose state
        it goes on included.
      wait_s: seconds that the consumer waited for it.
    """

    index: int
    epoch: int
    state: dict[str, Any]
    replicas: list[nested_map.NestedMap]
    num_examples: int
    num_tokens: int
    bad_ids: tuple[int, ...] = ()
    num_bad: int = 0
    wait_s: float = 0.0


class Feed(Iterator[Batch]):
    """Batches in order, made ahead by threads. Ends its threads when closed, dropped or at the end.

    An error in a thread is raised by `next` where its batch would have come.
    """

    def __init__(
        self,
        maker: BatchMaker,
        plans: Iterator[order_lib.PlannedBatch],
        data: str,
    ):
        """Starts the threads. `BaseInput.Batches` calls this.

        Args:
          maker: of this worker's part of the batches.
          plans: the batches to come.
          data: the fingerprint that is kept in the states.
        """
        self._maker = maker
        self._plans = plans
        self._state: dict[str, Any] = {'data': data} if data else {}
        # Of what was served, not of what is made ahead: states do not depend on timing.
        self._bad = maker.owner.BadIds()
        self._pool = concurrent.futures.ThreadPoolExecutor(
            maker.owner.params.num_batcher_threads, thread_name_prefix='input'
        )
        self._pending: collections.deque[concurrent.futures.Future[Batch]] = collections.deque()
        self._Fill()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Batch:
        if not self._pending:
            self.Close()
            raise StopIteration
        begin = time.perf_counter()
        try:
            batch = self._pending.popleft().result()
            self._Fill()
        except BaseException:
            self.Close()
            raise
        self._bad.update(batch.bad_ids)
        batch.num_bad = len(self._bad)
        batch.state = {**batch.state, **self._state}
        if self._bad:
            batch.state['bad_records'] = sorted(self._bad)
        batch.wait_s = time.perf_counter() - begin
        return batch

    def Close(self) -> None:
        """Drops the batches made ahead and ends the threads. May be called again."""
        self._Stop()
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *error: Any) -> None:
        self.Close()

    def __del__(self) -> None:
        if hasattr(self, '_pending'):
            self._Stop()  # garbage may be collected on a thread of the pool, which cannot join it

    def _Stop(self) -> None:
        self._plans = iter(())
        self._pending.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _Fill(self) -> None:
        while len(self._pending) < _AHEAD:
            plan = next(self._plans, None)
            if plan is None:
                return
            self._pending.append(self._pool.submit(self._maker.Make, plan))


@dataclasses.dataclass
class BatchMaker:
    """Makes one worker's part of planned batches; holds no reference to the Feed.

    Attributes:
      owner: a pipeline.BaseInput.
      all_replicas: among which a global batch is shared out.
      first_replica: of this worker.
      replicas: of this worker.
      train: whether the batches are trained on.
    """

    owner: Any
    all_replicas: int
    first_replica: int
    replicas: int
    train: bool

    def Make(self, plan: order_lib.PlannedBatch) -> Batch:
        parts, bad = self.Parts(plan)
        self.owner.Order(self.train).Ahead(plan.after)
        return Batch(
            plan.index,
            plan.epoch,
            plan.after,
            parts,
            len(plan.ids),
            plan.num_tokens,
            tuple(bad),
        )

    def Parts(self, plan: order_lib.PlannedBatch) -> tuple[list[nested_map.NestedMap], list[int]]:
        """(arrays of each replica, ids of the examples that could not be read)."""
        rows = -(-len(plan.ids) // self.all_replicas)
        parts: list[nested_map.NestedMap] = []
        bad: list[int] = []
        for replica in range(self.first_replica, self.first_replica + self.replicas):
            ids = [int(i) for i in plan.ids[replica :: self.all_replicas]]
            ids += [FILL] * (rows - len(ids))
            parts.append(self.owner.MakeRows(ids, plan, self.train))
            bad += [i for i, found in zip(ids, parts[-1].id.tolist()) if i != found]
        return parts, bad
