"""Greedy search over CTC frames. Padding and silence: test_prefix_beam_search.py."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from lingvo_lite.decoding.ctc.greedy import greedy


def test_greedy_collapses_the_best_alignment():
    alignment = [0, 3, 3, 0, 3, 4, 4, 0, 0, 2]
    log_probs = np.full([1, 12, 5], -5.0, np.float32)
    for frame, token in enumerate(alignment):
        log_probs[0, frame, token] = -0.25
    log_probs[0, 10:, 1] = 0.0  # padding
    paddings = np.float32([[0] * 10 + [1] * 2])
    found = greedy(tf.constant(log_probs), tf.constant(paddings))
    assert found.ids.numpy().tolist() == [[[3, 3, 4, 2]]]
    assert found.lengths.numpy().tolist() == [[4]]
    np.testing.assert_allclose(found.scores, [[-2.5]])
