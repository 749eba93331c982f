"""CTC loss, against all alignments written out. Padding and precision: test_conformance.py."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.layers.speech import ctc_loss

_RNG = np.random.default_rng(0)


def _LogSoftmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def _Oracle(logits, labels):
    """-log of the summed probability of all alignments, by trying them. logits: [time, vocab]."""
    p = np.exp(_LogSoftmax(logits.astype(np.float64)))
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        merged = [token for token, _ in itertools.groupby(path)]
        if [token for token in merged if token] == list(labels):
            total += np.prod([p[t, token] for t, token in enumerate(path)])
    return -np.log(total)


def _Loss(logits, frames, labels):
    """The layer's output for rows of labels (lists) and numbers of frames."""
    longest = max(1, max(len(row) for row in labels))
    ids = np.array([list(row) + [7] * (longest - len(row)) for row in labels], np.int32)
    label_paddings = 1.0 - (np.arange(longest) < np.array([[len(row)] for row in labels]))
    paddings = 1.0 - (np.arange(logits.shape[1]) < np.array(frames)[:, np.newaxis])
    layer = ctc_loss.CtcLoss.Params().Instantiate()
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(
            x,
            tf.constant(paddings, tf.float32),
            tf.constant(ids),
            tf.constant(label_paddings, tf.float32),
        )
    return out, tape.gradient(out.loss_sum, x).numpy()


_ROWS = [(5, [1, 2]), (4, [2, 2]), (5, [3, 3, 1]), (3, []), (5, [1, 2, 3, 1, 2]), (1, [3]), (1, [])]


def test_loss_is_that_of_all_alignments(inference_step):
    logits = _RNG.normal(size=[len(_ROWS), 5, 4]).astype(np.float32)
    out, _ = _Loss(logits, [n for n, _ in _ROWS], [row for _, row in _ROWS])
    wanted = [_Oracle(x[:n], row) for x, (n, row) in zip(logits, _ROWS)]
    np.testing.assert_allclose(out.per_example_loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(out.loss_sum, sum(wanted), rtol=1e-5)
    assert out.weight_sum == len(_ROWS) and out.too_long == 0


def test_gradient_is_that_of_finite_differences(inference_step):
    logits = _RNG.normal(size=[len(_ROWS), 5, 4]).astype(np.float32)
    _, gradient = _Loss(logits, [n for n, _ in _ROWS], [row for _, row in _ROWS])
    for i, (n, row) in enumerate(_ROWS):
        assert not gradient[i, n:].any()
        for t, v in itertools.product(range(n), range(4)):
            up, down = logits[i].astype(np.float64), logits[i].astype(np.float64)
            up[t, v] += 1e-4
            down[t, v] -= 1e-4
            wanted = (_Oracle(up[:n], row) - _Oracle(down[:n], row)) / 2e-4
            assert abs(gradient[i, t, v] - wanted) < 1e-4, (i, t, v)


def test_what_does_not_fit_is_counted_and_left_out(inference_step):
    logits = _RNG.normal(size=[5, 3, 4]).astype(np.float32)
    # 2 2 takes three frames, 2 2 1 four; the last row is a fill row.
    labels = [[1, 2, 3, 1], [2, 2, 1], [2, 2], [1], []]
    out, gradient = _Loss(logits, [3, 3, 3, 0, 0], labels)
    np.testing.assert_array_equal(out.per_example_weight, [0, 0, 1, 0, 0])
    assert out.weight_sum == 1 and out.too_long == 3
    np.testing.assert_allclose(out.loss_sum, _Oracle(logits[2], [2, 2]), rtol=1e-5)
    np.testing.assert_array_equal(out.per_example_loss.numpy() > 0, [0, 0, 1, 0, 0])
    assert np.isfinite(gradient).all() and not gradient[[0, 1, 3, 4]].any()


@pytest.mark.parametrize('scale', [1e2, 1e4])
def test_very_unlikely_labels_have_a_finite_loss(inference_step, scale):
    logits = np.zeros([1, 6, 4], np.float32)
    logits[:, :, 0] = scale
    out, gradient = _Loss(logits, [6], [[1, 2]])
    # Two frames of six are labels; each costs the difference of the logits.
    np.testing.assert_allclose(out.loss_sum, 2 * scale, rtol=0.05)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[0].sum(axis=0), [2, -1, -1, 0], atol=0.02)


def test_long_utterances_do_not_underflow(inference_step):
    logits = _RNG.normal(size=[2, 900, 6]).astype(np.float32)
    labels = _RNG.integers(1, 6, size=[2, 150]).tolist()
    out, gradient = _Loss(logits, [900, 700], labels)
    wanted = tf.nn.ctc_loss(
        tf.sparse.from_dense(labels),
        tf.constant(logits),
        None,
        tf.constant([900, 700]),
        logits_time_major=False,
        blank_index=0,
    )
    np.testing.assert_allclose(out.per_example_loss, wanted, rtol=1e-4)
    assert np.isfinite(gradient).all()


def _Posteriors(log_p, labels):
    """float64 [time, vocab], of each token at each frame: alpha and beta by hand."""
    extended = np.zeros(2 * len(labels) + 1, int)
    extended[1::2] = labels
    skips = np.append([False, False], (extended[2:] != extended[:-2]) & (extended[2:] != 0))

    def Forward(emitted, skips):
        alpha = np.full(emitted.shape, -np.inf)
        alpha[0, :2] = emitted[0, :2]
        for t in range(1, len(emitted)):
            one = np.append(-np.inf, alpha[t - 1, :-1])
            two = np.where(skips, np.append([-np.inf, -np.inf], alpha[t - 1, :-2]), -np.inf)
            alpha[t] = np.logaddexp(np.logaddexp(alpha[t - 1], one), two) + emitted[t]
        return alpha

    emitted = log_p[:, extended]
    backward = np.append([False, False], skips[:1:-1])
    log_joint = Forward(emitted, skips) - emitted
    log_joint += Forward(emitted[::-1, ::-1], backward)[::-1, ::-1]
    joint = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    joint /= joint.sum(axis=1, keepdims=True)
    found = np.zeros_like(log_p)
    for state, token in enumerate(extended):
        found[:, token] += joint[:, state]
    return found


def test_the_gradient_of_a_long_utterance_is_exact(inference_step):
    """1,500 frames in float32: each frame's sums to 0, and is that of float64 to 5e-4."""
    rng = np.random.RandomState(0)
    logits = 3 * rng.normal(size=[1500, 32])
    labels = rng.randint(1, 32, 200).astype(np.int32)
    x = tf.constant(logits[np.newaxis], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = ctc_loss.ctc(x, tf.constant([1500]), labels[np.newaxis], tf.constant([200]))
    gradient = tape.gradient(loss, x)[0].numpy()
    assert np.abs(gradient.sum(axis=1)).max() < 1e-5
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = np.exp(log_p) - _Posteriors(log_p, labels)
    assert np.linalg.norm(gradient - wanted) < 5e-4 * np.linalg.norm(wanted)


def test_no_labels_at_all(inference_step):
    """A batch of empty texts, whose labels have no axis to speak of: all frames are blanks."""
    logits = tf.random.stateless_normal([2, 5, 4], [1, 2])
    frames = tf.constant([5, 3])
    loss = ctc_loss.ctc(logits, frames, tf.zeros([2, 0], tf.int32), tf.zeros([2], tf.int32))
    blanks = tf.nn.log_softmax(logits)[:, :, 0] * tf.sequence_mask(frames, 5, tf.float32)
    np.testing.assert_allclose(loss, -tf.reduce_sum(blanks, axis=1), rtol=1e-5)


def test_logits_of_low_precision_are_computed_in_float32(inference_step):
    logits = tf.constant(_RNG.normal(size=[1, 40, 5]).astype(np.float16))
    layer = ctc_loss.CtcLoss.Params().Instantiate()
    labels, zeros = tf.constant([[1, 2, 3]]), tf.zeros([1, 40])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        low = layer(logits, zeros, labels, tf.zeros([1, 3])).loss_sum
    high = layer(tf.cast(logits, tf.float32), zeros, labels, tf.zeros([1, 3])).loss_sum
    assert low.dtype == tf.float32 and low == high
    assert tape.gradient(low, logits).dtype == tf.float16
