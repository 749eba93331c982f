"""Batches: who gets which rows, going on, threads that end, errors that arrive."""

import gc
import itertools
import json
import threading
import time

import numpy as np
import pytest

from lingvo_lite import hyperparams
from lingvo_lite.inputs import feed as feed_lib, pipeline, source
from lingvo_lite.nested_map import NestedMap

LENGTHS = np.random.default_rng(0).integers(1, 30, (101, 1))


class Squares(pipeline.BaseInput):
    """Example i is the number i*i, LENGTHS[i] times; `fail` and `bad` are examples that are not."""

    side_names = ('x',)

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('fail', -1, 'Example whose parsing fails.')
        p.Define('bad', [], 'Examples that cannot be read.')
        p.Define('slow', 0.0, 'Seconds a batch of even length takes.')
        return p

    def __init__(self, params):
        super().__init__(params)
        self._noted = source.BadRecords(params.max_bad_records, len(LENGTHS))

    def NumExamples(self):
        return len(LENGTHS)

    def Where(self, index):
        return f'squares.bin, record {index}'

    def _Lengths(self, train):
        return LENGTHS

    def _Load(self, ids, plan, train):
        if len(ids) % 2 == 0:
            time.sleep(self.params.slow)
        loaded = []
        for i in ids:
            if i == self.params.fail:
                raise KeyError('no such field')
            if i in self.params.bad:
                self._noted.Note(i, source.BadRecordError(f'{self.Where(i)}: CRC does not match.'))
            loaded.append(None if i in self.params.bad else [i * i] * int(LENGTHS[i, 0]))
        return loaded

    def _Collate(self, examples, padded):
        x = np.zeros((len(examples), padded[0]), np.int64)
        for row, example in enumerate(examples):
            x[row, : len(example or [])] = example or []
        return NestedMap(x=x)


def Make(**values):
    return Squares.Params().Set(**{'tokens_per_batch': 200, **values}).Instantiate()


def Take(feed, count=30):
    with feed:
        return list(itertools.islice(feed, count))


def Rows(batches):
    """{id: row} of the real rows of all replicas."""
    return {
        int(i): row.tolist()
        for batch in batches
        for part in batch.replicas
        for i, row in zip(part.id, part.x)
        if i != feed_lib.FILL
    }


def Global(batch):
    return sorted(int(i) for part in batch.replicas for i in part.id if i != feed_lib.FILL)


def test_rows_hold_their_example_and_nothing_else():
    for i, row in Rows(Take(Make().Batches(train=False), 1000)).items():
        length = int(LENGTHS[i, 0])
        assert row[:length] == [i * i] * length and not any(row[length:])


def test_evaluation_gives_every_example_once_and_ends():
    feed = Make().Batches(train=False)
    ids = [i for batch in feed for i in Global(batch)]
    assert sorted(ids) == list(range(101))
    assert list(feed) == []


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('workers, replicas', [(1, 2), (3, 1), (2, 4), (1, 16)])
def test_global_batches_do_not_depend_on_who_shares_them(workers, replicas, train):
    alone = Take(Make().Batches(train=train), 40)
    shares = [
        Take(Make().Batches(num_workers=workers, worker=w, replicas=replicas, train=train), 40)
        for w in range(workers)
    ]
    for parts in zip(alone, *shares):
        whole, parts = parts[0], parts[1:]
        assert sorted(i for part in parts for i in Global(part)) == Global(whole)
        shapes = {replica.x.shape for part in parts for replica in part.replicas}
        assert len(shapes) == 1  # every replica has the same number of rows
        assert {len(part.replicas) for part in parts} == {replicas}
        for part in parts:
            assert (part.index, part.epoch, part.state) == (whole.index, whole.epoch, whole.state)
            assert (part.num_examples, part.num_tokens) == (whole.num_examples, whole.num_tokens)
            for replica in part.replicas:
                fill = replica.id == feed_lib.FILL
                np.testing.assert_array_equal(replica.row_weight, 1.0 - fill)
                assert not replica.x[fill].any()
        merged = {}
        for part in parts:
            merged.update(Rows([part]))
        assert merged == Rows([whole])


def test_each_worker_reads_only_its_rows(monkeypatch):
    read = []
    load = Squares._Load
    monkeypatch.setattr(
        Squares, '_Load', lambda self, ids, *a: read.extend(ids) or load(self, ids, *a)
    )
    own = Rows(Take(Make().Batches(num_workers=3, worker=1, train=False), 1000))
    assert sorted(read) == sorted(own) and 25 < len(own) < 42


@pytest.mark.parametrize('stop', [1, 7, 25])
def test_going_on_from_any_state_equals_never_having_stopped(stop):
    whole = Take(Make().Batches(), 40)
    state = json.loads(json.dumps(whole[stop - 1].state))
    again = Take(Make().Batches(num_workers=1, replicas=1, start=state), 40 - stop)
    assert whole[stop].epoch > 0 or stop < 25
    for wanted, got in zip(whole[stop:], again):
        assert (wanted.index, wanted.epoch, wanted.state) == (got.index, got.epoch, got.state)
        np.testing.assert_array_equal(wanted.replicas[0].x, got.replicas[0].x)
        np.testing.assert_array_equal(wanted.replicas[0].id, got.replicas[0].id)


def test_the_number_of_threads_changes_nothing():
    one = Take(Make(num_batcher_threads=1).Batches())
    many = Take(Make(num_batcher_threads=6, slow=0.003).Batches())
    assert [b.index for b in many] == list(range(30))
    for a, b in zip(one, many):
        np.testing.assert_array_equal(a.replicas[0].x, b.replicas[0].x)


def test_batches_are_made_ahead_and_waiting_is_measured():
    with Make(batch_size=2, slow=0.05, num_batcher_threads=2).Batches() as feed:
        assert next(feed).wait_s > 0.02
        time.sleep(0.5)
        assert sum(next(feed).wait_s for _ in range(4)) < 0.05


def Threads():
    return [t for t in threading.enumerate() if t.name.startswith('input')]


def test_threads_end_when_closed_dropped_or_exhausted():
    feed = Make().Batches()
    next(feed)
    assert Threads()
    feed.Close()
    feed.Close()
    assert not Threads()
    assert list(feed) == []

    feed = Make().Batches()
    next(feed)
    del feed
    gc.collect()
    for _ in range(100):
        time.sleep(0.01 if Threads() else 0)
    assert not Threads()

    list(Make().Batches(train=False))
    assert not Threads()


def test_an_error_in_a_thread_names_the_record_where_its_batch_would_come():
    fine = Take(Make().Batches(train=False), 1000)
    where = next(batch.index for batch in fine if 13 in Global(batch))
    feed = Make(fail=13).Batches(train=False)
    got = []
    with pytest.raises(feed_lib.InputError, match="squares.bin, record 13: KeyError: 'no such"):
        for batch in feed:
            got.append(batch.index)
    assert got == list(range(where))
    assert not Threads()


def test_bad_records_become_fill_rows_up_to_the_limit():
    rows = Rows(Take(Make(bad=[3, 50], max_bad_records=2).Batches(train=False), 1000))
    assert sorted(rows) == sorted(set(range(101)) - {3, 50})
    with pytest.raises(
        source.BadRecordError, match='2 of 101 records skipped; more than input.max_bad_records=1'
    ):
        Take(Make(bad=[3, 50], max_bad_records=1).Batches(train=False), 1000)


def test_a_state_of_other_params_is_refused():
    state = Take(Make().Batches(), 1)[0].state
    with pytest.raises(ValueError, match='belongs to another order'):
        Take(Make(tokens_per_batch=300).Batches(start=state))
    Take(Make(num_batcher_threads=5).Batches(start=state))


def test_what_is_too_long_is_said(caplog):
    long = int((LENGTHS > 24).sum())
    assert long
    Take(Make(tokens_per_batch=24).Batches(), 1)
    assert f'{long} of 101 examples are not trained on' in caplog.text
    assert 'padded row is longer than 24' in caplog.text and 'squares.bin, record' in caplog.text


@pytest.mark.parametrize(
    'values, text',
    [
        (dict(tokens_per_batch=None), 'set tokens_per_batch, batch_size, or both'),
        (dict(tokens_per_batch=0), 'tokens_per_batch=0 must be at least 1'),
        (dict(num_batcher_threads=0), 'num_batcher_threads=0 must be at least 1'),
        (dict(max_bad_records=-1), 'max_bad_records=-1 must be at least 0'),
        (dict(bucket_upper_bound=[8, 4]), r'\[8, 4\] must be whole numbers that rise, from 1 on'),
    ],
)
def test_params_that_do_not_fit(values, text):
    with pytest.raises(hyperparams.ConfigError, match=text):
        Make(**values)


@pytest.mark.parametrize('worker, workers, replicas', [(2, 2, 1), (-1, 2, 1), (0, 1, 0)])
def test_workers_that_do_not_exist(worker, workers, replicas):
    with pytest.raises(ValueError, match='no rows for worker'):
        Make().Batches(num_workers=workers, worker=worker, replicas=replicas)
