"""Which source the n-th batch comes from is a function of (seed, n); all else is each order's."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite.inputs import mixture_order, order

SIZES = (30, 7, 12)


def Make(weights=(3.0, 1.0, 1.0), seed=5):
    rng = np.random.default_rng(0)
    orders = [
        order.Order(rng.integers(1, 20, (n, 2)), order.Limits(rows=4), train=True, seed=n)
        for n in SIZES
    ]
    return mixture_order.Mixture(orders, SIZES, weights, seed), orders


def Source(batch):
    return int(np.searchsorted(np.cumsum(SIZES), batch.ids[0], side='right'))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**63))
def test_going_on_equals_never_having_stopped(stop, seed):
    walked = list(itertools.islice(Make(seed=seed)[0].Walk(), stop + 30))
    start = json.loads(json.dumps(walked[stop - 1].after)) if stop else None
    for wanted, got in zip(walked[stop:], Make(seed=seed)[0].Walk(start)):
        assert wanted.ids.tolist() == got.ids.tolist()
        assert (wanted.index, wanted.epoch, wanted.after) == (got.index, got.epoch, got.after)


def test_batches_are_those_of_the_orders_with_shifted_ids():
    mixed, orders = Make()
    walks = [o.Walk() for o in orders]
    shift = [0, SIZES[0], SIZES[0] + SIZES[1]]
    for batch in itertools.islice(mixed.Walk(), 100):
        which = Source(batch)
        own = next(walks[which])
        assert (batch.ids - shift[which]).tolist() == own.ids.tolist()
        assert batch.source_epoch == own.epoch


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10000), st.integers(0, 9000))
def test_draws_do_not_depend_on_where_one_begins(first, count):
    mixed, _ = Make()
    assert mixed.Draws(first, first + count).tolist() == ALL_DRAWS[first : first + count].tolist()


ALL_DRAWS = Make()[0].Draws(0, 19000)


def test_shares_follow_the_weights():
    share = np.bincount(ALL_DRAWS, minlength=3) / len(ALL_DRAWS)
    np.testing.assert_allclose(share, [0.6, 0.2, 0.2], atol=0.015)


def test_an_epoch_ends_when_the_slowest_source_has_been_through():
    seen, epochs = set(), []
    for batch in itertools.islice(Make()[0].Walk(), 120):
        epochs.append(batch.epoch)
        if batch.epoch == 0:
            seen.update(batch.ids.tolist())
    assert seen == set(range(sum(SIZES)))
    assert epochs == sorted(epochs) and epochs[-1] > 1


def test_another_mixture_is_refused():
    cursor = next(Make()[0].Walk()).after
    with pytest.raises(ValueError, match='another mixture'):
        next(Make(weights=(1.0, 1.0, 1.0))[0].Walk(cursor))


@pytest.mark.parametrize('weights', [(1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0)])
def test_bad_weights(weights):
    with pytest.raises(ValueError, match='weights'):
        Make(weights)
