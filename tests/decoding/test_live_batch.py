"""Who leaves the batch, and when."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding import live_batch


def Select(done):
    kept, left = live_batch.select(tf.constant(done))
    return kept.numpy().tolist(), left.numpy().tolist()


def test_nobody_leaves_until_the_batch_fits_a_smaller_multiple_of_8():
    done = [True] * 4 + [False] * 9 + [True] * 3
    assert Select(done) == (list(range(16)), [])
    done[8] = True
    kept, left = Select(done)
    assert kept == [4, 5, 6, 7, 9, 10, 11, 12] and left == [0, 1, 2, 3, 8, 13, 14, 15]


def test_finished_ones_stay_as_fill():
    done = np.ones([20], bool)
    done[[3, 17]] = False
    kept, left = Select(done)
    assert kept[:2] == [3, 17] and len(kept) == 8
    assert sorted(kept + left) == list(range(20))


@pytest.mark.parametrize('done', [[True] * 20, [False] * 20, [True] * 3 + [False] * 2, [], [False]])
def test_the_batch_stays_where_nothing_is_gained(done):
    assert Select(np.array(done, bool)) == (list(range(len(done))), [])
