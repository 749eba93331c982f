"""The order of batches: whatever the lengths, each promise of order.py holds."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite.inputs import order

SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def problems(draw):
    """(lengths [n, sides], limits, seed, window)."""
    sides = draw(st.integers(1, 3))
    row = st.lists(st.integers(1, 40), min_size=sides, max_size=sides)
    lengths = np.array(draw(st.lists(row, min_size=1, max_size=60)))
    tokens = draw(st.one_of(st.none(), st.integers(1, 600)))
    rows = draw(st.integers(1, 20)) if tokens is None else draw(st.none() | st.integers(1, 20))
    bounds = draw(st.sampled_from([(), (4, 12, 40), (16, 24), (100,)]))
    limits = order.Limits(tokens, rows, bounds)
    return lengths, limits, draw(st.integers(0, 2**40)), draw(st.integers(1, 80))


def Fits(lengths, limits):
    """Oracle of what a batch of one may cost."""
    cost = [sum(int(order.PaddedLengths(x, limits.bounds)) for x in row) for row in lengths]
    return [i for i, c in enumerate(cost) if limits.tokens is None or c <= limits.tokens]


def Epoch(batches, epoch):
    return list(itertools.takewhile(lambda b: b.epoch == epoch, batches))


def Same(a, b):
    assert a.ids.tolist() == b.ids.tolist()
    assert (a.index, a.epoch, a.padded, a.num_tokens, a.after) == (
        b.index,
        b.epoch,
        b.padded,
        b.num_tokens,
        b.after,
    )


@SETTINGS
@given(problems())
def test_every_fitting_example_exactly_once_an_epoch_within_the_budget(problem):
    lengths, limits, seed, window = problem
    fitting = Fits(lengths, limits)
    if not fitting:
        with pytest.raises(ValueError, match='none of the'):
            order.Order(lengths, limits, train=True, seed=seed, window=window)
        return
    made = order.Order(lengths, limits, train=True, seed=seed, window=window)
    walk = made.Walk()
    first = Epoch(walk, 0)
    assert sorted(i for batch in first for i in batch.ids) == fitting
    assert sorted(made.skipped) == sorted(set(range(len(lengths))) - set(fitting))
    for batch in first:
        own = lengths[batch.ids]
        assert all(p >= length for p, length in zip(batch.padded, own.max(axis=0)))
        assert limits.tokens is None or len(batch.ids) * sum(batch.padded) <= limits.tokens
        assert limits.rows is None or len(batch.ids) <= limits.rows
        assert batch.num_tokens == own.sum()
    second = Epoch(made.Walk(first[-1].after), 1)
    assert sorted(i for batch in second for i in batch.ids) == fitting


@SETTINGS
@given(problems(), st.integers(0, 30))
def test_going_on_from_a_saved_cursor_equals_never_having_stopped(problem, stop):
    lengths, limits, seed, window = problem
    if not Fits(lengths, limits):
        return
    walked = list(
        itertools.islice(
            order.Order(lengths, limits, train=True, seed=seed, window=window).Walk(), stop + 20
        )
    )
    start = json.loads(json.dumps(walked[stop - 1].after)) if stop else None
    again = order.Order(lengths, limits, train=True, seed=seed, window=window).Walk(start)
    for wanted, got in zip(walked[stop:], again):
        Same(wanted, got)
    assert [b.index for b in walked] == list(range(len(walked)))


@SETTINGS
@given(problems())
def test_evaluation_gives_every_example_once_longest_first(problem):
    lengths, limits, seed, window = problem
    batches = list(order.Order(lengths, limits, train=False, seed=seed, window=window).Walk())
    assert sorted(i for batch in batches for i in batch.ids) == list(range(len(lengths)))
    last = [int(lengths[b.ids][:, -1].max()) for b in batches]
    padded = order.PaddedLengths(last, limits.bounds).tolist()
    assert padded == sorted(padded, reverse=True)
    for batch in batches:
        over = limits.tokens is not None and len(batch.ids) * sum(batch.padded) > limits.tokens
        assert not over or len(batch.ids) == 1


@SETTINGS
@given(problems())
def test_a_batch_is_as_large_as_the_limits_allow(problem):
    lengths, limits, _, _ = problem
    starts = order.Pack(lengths, limits)
    assert starts[0] == 0 and starts[-1] == len(lengths)
    for begin, end in zip(starts, starts[1:]):
        assert end > begin
        if end == len(lengths):
            break
        more = lengths[begin : end + 1].max(axis=0)
        cost = (end + 1 - begin) * int(order.PaddedLengths(more, limits.bounds).sum())
        full = limits.rows is not None and end - begin == limits.rows
        assert full or (limits.tokens is not None and cost > limits.tokens)


def test_epochs_and_seeds_differ_and_repeat():
    lengths = np.random.default_rng(0).integers(1, 50, (500, 2))
    limits = order.Limits(tokens=1000)

    def First(seed, epoch):
        made = order.Order(lengths, limits, train=True, seed=seed)
        return [b.ids.tolist() for b in itertools.islice(made.Walk(), 200) if b.epoch == epoch]

    assert First(1, 0) == First(1, 0)
    assert First(1, 0) != First(2, 0)
    assert First(1, 0) != First(1, 1)
    assert sorted(map(len, First(1, 0))) != list(map(len, First(1, 0)))  # batches are shuffled


def test_random_bits_are_pinned():
    """A change here makes every saved position in the data point elsewhere."""
    assert order.Permutation(8, seed=301, stream=1, number=5).tolist() == [1, 7, 0, 4, 6, 3, 5, 2]


def test_sorting_in_a_window_saves_padding():
    lengths = np.random.default_rng(1).integers(1, 100, (2000, 2))

    def Share(window):
        made = order.Order(lengths, order.Limits(tokens=4096), train=True, window=window)
        batches = Epoch(made.Walk(), 0)
        return sum(b.num_tokens for b in batches) / sum(len(b.ids) * sum(b.padded) for b in batches)

    assert Share(2000) > 0.8 > 0.6 > Share(20)


def test_padded_lengths():
    assert order.PaddedLengths([1, 8, 9, 16, 17]).tolist() == [8, 8, 16, 16, 24]
    assert order.PaddedLengths([1, 10, 11, 30, 31], (10, 30)).tolist() == [10, 10, 30, 30, 32]


def test_too_long_and_unusable_examples_are_skipped_in_training_only():
    lengths = np.array([[3, 3], [9, 3], [3, 9], [3, 3]])
    limits = order.Limits(rows=2)
    usable = [True, True, True, False]
    train = order.Order(lengths, limits, train=True, max_lengths=(8, None), usable=usable)
    assert train.skipped.tolist() == [1, 3]
    held = order.Order(lengths, limits, train=False, max_lengths=(8, None), usable=usable)
    assert sorted(i for b in held.Walk() for i in b.ids) == [0, 1, 2]


@pytest.mark.parametrize('change', ['lengths', 'limits', 'seed', 'window', 'usable'])
def test_a_cursor_of_another_order_is_refused(change):
    arguments = dict(lengths=[[3]] * 9, limits=order.Limits(rows=2), train=True, seed=1, window=5)
    other = {
        'lengths': [[3]] * 8 + [[4]],
        'limits': order.Limits(rows=3),
        'seed': 2,
        'window': 6,
        'usable': [True] * 8 + [False],
    }
    cursor = next(order.Order(**arguments).Walk()).after
    with pytest.raises(ValueError, match='belongs to another order'):
        next(order.Order(**{**arguments, change: other[change]}).Walk(cursor))


def test_epochs_computed_ahead_change_nothing():
    lengths = np.random.default_rng(0).integers(1, 50, (40, 2))
    ahead, plain = (order.Order(lengths, order.Limits(rows=4), train=True) for _ in range(2))
    for one, other in itertools.islice(zip(ahead.Walk(), plain.Walk()), 60):
        ahead.Ahead(one.after)
        Same(one, other)


@pytest.mark.parametrize(
    'limits, text',
    [
        (dict(), 'needs a limit'),
        (dict(tokens=0), 'at least 1, got 0'),
        (dict(rows=2, bounds=(8, 8)), 'must increase'),
    ],
)
def test_limits_that_make_no_sense(limits, text):
    with pytest.raises(ValueError, match=text):
        order.Limits(**limits)
