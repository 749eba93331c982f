"""Who leaves the batch, and when."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding import live_batch


def Select(done):
    kept, left = live_batch.select(tf.constant(done))
    return kept.numpy().tolist(), left.numpy().tolist()


def test_those_that_are_done_leave_and_the_others_keep_their_order():
    done = [True] * 2 + [False] * 3 + [True]
    assert Select(done) == ([2, 3, 4], [0, 1, 5])


@pytest.mark.parametrize('done', [[True] * 20, [False] * 20, [], [False]])
def test_nobody_leaves_where_all_or_none_are_done(done):
    assert Select(np.array(done, bool)) == (list(range(len(done))), [])
