"""The best alignment is the best of all alignments; words have the times of their tokens."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding.ctc import alignment


def collapse(alignment):
    runs = [token for token, _ in itertools.groupby(alignment)]
    return [token for token in runs if token]


def best_alignment(log_probs, text):
    """(log-probability, alignment) by trying all; (-inf, None) if none is possible."""
    time, vocab = log_probs.shape
    found = -np.inf, None
    for path in itertools.product(range(vocab), repeat=time):
        if collapse(path) == text:
            found = max(found, (log_probs[range(time), path].sum(), path))
    return found


def spans(alignment, num_tokens):
    """First and last frame of each token."""
    first, last, token, before = [], [], -1, 0
    for frame, symbol in enumerate(alignment):
        if symbol and symbol != before:
            token += 1
            first.append(frame)
            last.append(frame)
        elif symbol:
            last[token] = frame
        before = symbol
    assert len(first) == num_tokens
    return first, last


@tf.function(autograph=False, reduce_retracing=True)
def align(log_probs, paddings, ids, lengths):
    return dict(alignment.align(log_probs, paddings, ids, lengths))


TEXTS = [[], [1], [1, 1], [1, 2, 1], [2, 2, 2], [1, 1, 1, 1], [1, 2, 1, 2]]


def test_every_text_gets_its_best_alignment():
    rng = np.random.RandomState(0)
    log_probs = np.log(rng.dirichlet([0.7] * 3, size=[len(TEXTS), 6])).astype(np.float32)
    lengths = np.array([6, 5, 6, 4, 6, 6, 3])
    paddings = (np.arange(6) >= lengths[:, None]).astype(np.float32)
    ids = np.zeros([len(TEXTS), 4], np.int32)
    for row, text in enumerate(TEXTS):
        ids[row, : len(text)] = text
    found = align(*map(tf.constant, (log_probs, paddings, ids, [len(t) for t in TEXTS])))
    impossible = 0
    for row, text in enumerate(TEXTS):
        score, alignment = best_alignment(log_probs[row, : lengths[row]], text)
        np.testing.assert_allclose(found['score'][row], score, rtol=1e-5)
        first, last = found['first'].numpy()[row], found['last'].numpy()[row]
        if alignment is None:
            impossible += 1
            assert (first == -1).all() and (last == -1).all()
            continue
        begins, ends = spans(alignment, len(text))
        assert first[: len(text)].tolist() == begins and last[: len(text)].tolist() == ends
        assert (first[len(text) :] == -1).all() and (last[len(text) :] == -1).all()
    assert impossible == 2  # 1 1 1 1 takes 7 frames, 1 2 1 2 takes 4


def test_no_frames_and_no_tokens():
    found = align(tf.zeros([2, 0, 3]), tf.zeros([2, 0]), tf.ones([2, 1], tf.int32), [0, 1])
    assert found['score'].numpy().tolist() == [-np.inf, -np.inf]
    assert found['first'].numpy().tolist() == [[-1], [-1]]
    found = align(tf.zeros([1, 4, 3]), tf.zeros([1, 4]), tf.zeros([1, 0], tf.int32), [0])
    assert found['first'].shape == [1, 0] and found['score'].numpy().tolist() == [0.0]


@pytest.mark.parametrize(
    'tokens', [['g', 'o', ' ', 'u', 'p'], ['\u2581go', '', '\u2581', 'u', 'p']]
)
def test_words_reach_from_their_first_token_to_their_last(tokens):
    first, last = np.array([2, 5, 6, 9, 12]), np.array([3, 5, 7, 9, 13])
    got = alignment.words(tokens, first, last, frame_s=0.04)
    assert [word.text for word in got] == ['go', 'up']
    end = 0.24 if tokens[1] == 'o' else 0.16
    np.testing.assert_allclose([got[0].start_s, got[0].end_s], [0.08, end])
    np.testing.assert_allclose([got[1].start_s, got[1].end_s], [0.36, 0.56])


def test_spaces_alone_are_no_words():
    assert alignment.words([' ', ' '], np.array([0, 2]), np.array([0, 2]), 0.04) == []
    assert alignment.words([], np.zeros(0), np.zeros(0), 0.04) == []
