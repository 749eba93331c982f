"""Several orders in one sequence of global batches, drawn by weight."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from lingvo_lite.inputs import order

_CHUNK = 4096  # draws that are made at once


class Mixture:
    """Several orders in one sequence: each global batch comes from one of them, drawn by weight.

    Which one is a pure function of (seed, number of the global batch). Ids are shifted: those of
    order k begin where those of order k - 1 end. The epoch is that of the order which has come
    least far, so epoch e begins when each example of each source was served e times.
    """

    def __init__(
        self,
        orders: Sequence[order.Order],
        sizes: Sequence[int],
        weights: Sequence[float],
        seed: int,
    ):
        """Keeps the orders, which must be endless.

        Args:
          orders: what is mixed.
          sizes: the number of examples in the source of each, skipped ones included.
          weights: the share of batches of each, up to a common factor.
          seed: of the draws.

        Raises:
          ValueError: if the numbers do not match, or a weight is not above 0.
        """
        if not orders or not len(orders) == len(sizes) == len(weights):
            raise ValueError(
                f'a mixture needs as many sizes and weights as orders; got {len(orders)} orders, '
                f'{len(sizes)} sizes and {len(weights)} weights.'
            )
        if not all(np.isfinite(w) and w > 0 for w in weights):
            raise ValueError(f'the weights of a mixture must be above 0, got {list(weights)}.')
        self._orders, self._seed = tuple(orders), seed
        self._first = np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))])
        share = np.cumsum(np.asarray(weights, np.float64)) / float(np.sum(weights))
        self._edges = share[:-1]
        inner = ','.join(o.fingerprint for o in orders)
        known = repr((inner, [float(w) for w in weights], seed)).encode()
        self.fingerprint = hashlib.blake2b(known, digest_size=8).hexdigest()

    def Draws(self, first: int, last: int) -> order.Ints:
        """The orders that serve the global batches first .. last-1. -> [last - first]."""
        chunks = []
        for chunk in range(first // _CHUNK, -(-last // _CHUNK)):
            bits = order.Bits(_CHUNK, self._seed, order.MIXTURE, chunk)
            chunks.append(np.searchsorted(self._edges, (bits >> np.uint64(11)) * 2.0**-53, 'right'))
        begin = first // _CHUNK * _CHUNK
        drawn = np.concatenate(chunks) if chunks else np.zeros(0, np.int64)
        return drawn[first - begin : last - begin].astype(np.int64)

    def Ahead(self, cursor: Mapping[str, Any]) -> None:
        """Computes the epochs that come next in each order; for worker threads."""
        for o, own in zip(self._orders, cursor['sources']):
            if own is not None:
                o.Ahead(own)

    def Walk(self, start: Optional[Mapping[str, Any]] = None) -> Iterator[order.PlannedBatch]:
        """The batches from a cursor on; from the first one if there is none.

        Raises:
          ValueError: if the cursor was made by another mixture, or over other data.
        """
        index = 0
        cursors: list[Optional[dict[str, Any]]] = [None] * len(self._orders)
        if start is not None:
            if start.get('order') != self.fingerprint:
                raise ValueError(
                    f'the saved position in the data belongs to another mixture '
                    f'({start.get("order")}, here {self.fingerprint}): its sources, weights or '
                    'seed have changed. Take the change back, or start a run of its own.'
                )
            index, cursors = int(start['index']), list(start['sources'])
        walks = [o.Walk(cursor) for o, cursor in zip(self._orders, cursors)]
        drawn = self.Draws(index, self._Next(index))
        begin = index
        while True:
            if index == begin + len(drawn):
                begin, drawn = index, self.Draws(index, self._Next(index))
            which = int(drawn[index - begin])
            epoch = min(0 if c is None else int(c['epoch']) for c in cursors)
            batch = next(walks[which])
            cursors = [*cursors[:which], batch.after, *cursors[which + 1 :]]
            index += 1
            after = {'index': index, 'sources': cursors, 'order': self.fingerprint}
            yield dataclasses.replace(
                batch, index=index - 1, epoch=epoch, ids=batch.ids + self._first[which], after=after
            )

    def Buckets(self) -> list[order.PlannedBatch]:
        """As that of an order: of each padded shape in any source, a batch with the most rows."""
        found: dict[tuple[int, ...], order.PlannedBatch] = {}
        for first, each in zip(self._first, self._orders):
            for plan in each.Buckets():
                known = found.get(plan.padded)
                if known is None or len(plan.ids) > len(known.ids):
                    found[plan.padded] = dataclasses.replace(plan, ids=plan.ids + first)
        return [found[shape] for shape in sorted(found)]

    def _Next(self, index: int) -> int:
        return (index // _CHUNK + 1) * _CHUNK
