"""The two penalties of GNMT, equation 14."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from lingvo_lite.decoding import penalties


def test_length_penalty_is_gnmt():
    got = penalties.length_penalty(tf.constant([1, 7, 31]), 0.6)
    np.testing.assert_allclose(got, [1.0, 2.0**0.6, 6.0**0.6], rtol=1e-6)
    np.testing.assert_array_equal(penalties.length_penalty(tf.constant([1, 90]), 0.0), [1.0, 1.0])


def test_coverage_penalty_is_gnmt_over_real_positions():
    attention = np.float32([[[[0.5, 0.5, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0]]]])
    paddings = np.float32([[0, 0, 0, 1]])
    got = penalties.coverage_penalty(tf.constant(attention), tf.constant(paddings), 0.3)
    expected = 0.3 * (np.log(1.0) + np.log(0.6) + np.log(1e-6))
    np.testing.assert_allclose(got, [[expected]], rtol=1e-5)
