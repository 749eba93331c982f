"""Monotonic attention: where it stops. Its contexts: test_attention.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.layers.recurrent import monotonic_attention

BATCH, TIME, SOURCE, QUERY, DIM = 3, 4, 7, 3, 2
_RNG = np.random.default_rng(0)
QUERIES = _RNG.normal(size=[BATCH, TIME, QUERY]).astype(np.float32)
VALUES = _RNG.normal(size=[BATCH, SOURCE, DIM]).astype(np.float32)
PADDINGS = (np.arange(SOURCE) >= np.array([7, 4, 0])[:, None]).astype(np.float32)


def _Built(**kwargs):
    """A layer with random values."""
    p = monotonic_attention.MonotonicAttention.Params().Set(**kwargs)
    layer = p.Set(source_dim=DIM, query_dim=QUERY, hidden_dim=5).Instantiate()
    rng = np.random.default_rng(1)
    for variable in layer.AllVariables().values():
        variable.assign(rng.normal(size=variable.shape))
    return layer


def test_it_stops_at_the_first_from_the_last_on():
    p = tf.constant([[0.9, 0.2, 0.7, 0.8], [0.9, 0.2, 0.7, 0.8], [0.9, 0.1, 0.2, 0.3]])
    last = tf.one_hot([0, 1, 1], 4)
    stops = monotonic_attention.first_stop(p, last)
    np.testing.assert_array_equal(stops, [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(
        monotonic_attention.first_stop(p, tf.zeros([3, 4])), np.zeros([3, 4])
    )


def test_sure_probabilities_make_both_equal():
    p = tf.constant([[0.0, 1.0, 0.0, 1.0]])
    for last in np.eye(4, dtype=np.float32):
        last = tf.constant(last[np.newaxis])
        soft = monotonic_attention.expected_stop(p, last)
        np.testing.assert_allclose(soft, monotonic_attention.first_stop(p, last), atol=1e-6)


def test_long_sources_stay_finite():
    """Where the probability to get there underflows, gradients are finite too."""
    p = tf.fill([1, 2000], 0.9)
    with tf.GradientTape() as tape:
        tape.watch(p)
        probs = monotonic_attention.expected_stop(p, tf.one_hot([0], 2000))
    assert np.isfinite(tape.gradient(probs, p)).all()
    assert float(tf.reduce_sum(probs)) == pytest.approx(1.0, abs=1e-5)


def test_not_training_it_looks_at_one_position_and_never_back(inference_step):
    layer = _Built()
    layer.vars.r.assign(0.0)
    memory = layer.Memory(tf.constant(VALUES), tf.constant(PADDINGS))
    state, before = layer.InitStates(memory), np.zeros(BATCH)
    for t in range(TIME):
        _, probs, state = layer.ExtendStep(tf.constant(QUERIES[:, t]), memory, state)
        probs = probs.numpy()
        assert set(np.unique(probs)) <= {0.0, 1.0} and probs.sum(axis=1).max() <= 1
        found = probs.sum(axis=1) > 0
        at = probs.argmax(axis=1)
        assert np.all(at[found] >= before[found])
        before[found] = at[found]


def test_noise_is_of_training_only():
    quiet = _Built(hard=False)
    noisy = _Built(hard=False, sigmoid_noise=3.0)
    inputs = list(map(tf.constant, (QUERIES, VALUES, PADDINGS)))
    with step.Context(training=False):
        np.testing.assert_array_equal(quiet(*inputs), noisy(*inputs))
    with step.Context(training=True):
        assert np.abs(quiet(*inputs) - noisy(*inputs)).max() > 0.01
