"""The same data on any cluster: a run may be gone on with by another number of workers."""

from __future__ import annotations

import collections
import json

import numpy as np
from hypothesis import given, settings, strategies as st

from lingvo_lite.inputs import feed as feed_lib, pipeline
from lingvo_lite.nested_map import NestedMap

COUNT = 37
LENGTHS = np.random.default_rng(2).integers(1, 20, (COUNT, 1))


class Numbers(pipeline.BaseInput):
    """Example i is i, LENGTHS[i] times."""

    side_names = ('x',)

    def NumExamples(self):
        return COUNT

    def Where(self, index):
        return f'number {index}'

    def _Lengths(self, train):
        return LENGTHS

    def _Load(self, ids, plan, train):
        return [np.full(LENGTHS[i, 0], i) for i in ids]

    def _Collate(self, examples, padded):
        x = np.zeros((len(examples), padded[0]), np.int64)
        for row, example in enumerate(examples):
            if example is not None:
                x[row, : len(example)] = example
        return NestedMap(x=x)


INPUT = Numbers.Params().Set(tokens_per_batch=72).Instantiate()


def Train(workers, replicas, steps, state):
    """What a cluster trains on: ([(epoch, ids of the global batch)], state to save)."""
    feeds = [
        INPUT.Batches(num_workers=workers, worker=worker, replicas=replicas, start=state)
        for worker in range(workers)
    ]
    seen = []
    for _ in range(steps):
        parts = [next(feed) for feed in feeds]
        # A replica without rows would have a gradient of another shape: it has fill rows.
        assert len({len(replica.id) for part in parts for replica in part.replicas}) == 1
        ids = [int(i) for part in parts for replica in part.replicas for i in replica.id]
        assert all(part.state == parts[0].state for part in parts)
        seen.append((parts[0].epoch, sorted(i for i in ids if i != feed_lib.FILL)))
        state = json.loads(json.dumps(parts[0].state))
    for feed in feeds:
        feed.Close()
    return seen, state


CLUSTER = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 25))


@settings(max_examples=12, deadline=None)
@given(st.lists(CLUSTER, min_size=1, max_size=4))
def test_each_example_once_an_epoch_whatever_clusters_train(clusters):
    seen, state = [], None
    for workers, replicas, steps in clusters:
        found, state = Train(workers, replicas, steps, state)
        seen += found
    assert seen == Train(1, 1, len(seen), None)[0]
    by_epoch = collections.defaultdict(list)
    for epoch, ids in seen:
        by_epoch[epoch] += ids
    last = max(by_epoch)
    for epoch, ids in by_epoch.items():
        assert len(set(ids)) == len(ids)
        assert epoch == last or sorted(ids) == list(range(COUNT))


def test_there_is_something_to_be_shared():
    """Epochs of several batches, some that do not divide, some with few rows."""
    seen, _ = Train(1, 1, 60, None)
    rows = [len(ids) for _, ids in seen]
    assert seen[-1][0] > 2 and min(rows) < 4 and max(rows) > 8 and any(r % 2 for r in rows)
