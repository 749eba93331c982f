"""Greedy search is a beam of 1; samples have the statistics they should and no company."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding import beam_search, live_batch, sampling, scorers
from lingvo_lite.nested_map import NestedMap


@pytest.mark.parametrize('eos_bias', [-30.0, 1.0])
def test_greedy_equals_beam_1(make_table, run_search, eos_bias):
    table = make_table(vocab=600, sentences=20, eos_bias=eos_bias + 4)
    limits = [i for i in range(20)]
    greedy = run_search(sampling.greedy_search, table, range(20), limits, True)
    beam = run_search(beam_search.beam_search, table, range(20), limits, True, beam_size=1)
    for key in ('ids', 'lengths'):
        np.testing.assert_array_equal(greedy[key], beam[key])
    for key in ('scores', 'attention'):
        np.testing.assert_allclose(greedy[key], beam[key], rtol=1e-5, atol=1e-5)
    assert len(set(greedy.lengths[:, 0])) > 5


def test_greedy_takes_the_best_token_of_each_step(make_table, run_search):
    table = make_table(vocab=9, sentences=6)
    found = run_search(sampling.greedy_search, table, range(6), [8] * 6, length_normalization=0.7)
    for sentence in range(6):
        tokens = []
        while len(tokens) < 7:
            token = int(np.argmax(table.log_probs(sentence, tokens)))
            if token == table.eos_id:
                break
            tokens.append(token)
        assert found.ids[sentence, 0, : found.lengths[sentence, 0]].tolist() == tokens
        score = table.score(sentence, tokens, alpha=0.7)
        np.testing.assert_allclose(found.scores[sentence, 0], score, rtol=1e-5)


def test_greedy_of_equal_tokens_takes_the_lowest():
    logits = np.zeros([1, 4000], np.float32)
    logits[0, [1234, 77, 3999]] = 5.0

    class Same(scorers.Scorer):
        bos_id, eos_id = 0, 1

        def Init(self):
            return NestedMap(cache=NestedMap(), source=NestedMap())

        def Step(self, ids, position, state):
            return tf.constant(logits), state, None

    found = sampling.greedy_search(Same(), tf.constant([3]))
    assert found.ids.numpy().tolist() == [[[77, 77]]]


def test_a_sample_depends_on_its_example_and_seed_alone(make_table, run_search):
    table = make_table(vocab=40, sentences=20, eos_bias=1.0)
    rng = np.random.RandomState(0)
    limits, ids = rng.randint(2, 100, size=20), rng.randint(0, 2**40, size=20)

    def Sample(rows, num_hyps=3, seed=7):
        found = run_search(
            sampling.sample,
            table,
            rows,
            limits[rows],
            example_ids=tf.constant(ids[rows]),
            seed=seed,
            num_hyps=num_hyps,
        )
        return [
            [hyp[:n].tolist() for hyp, n in zip(hyps, lengths)]
            for hyps, lengths in zip(found.ids, found.lengths)
        ]

    whole = Sample(np.arange(20))
    order = rng.permutation(20)
    assert Sample(order[:1]) == [whole[order[0]]]
    assert Sample(order[:9], num_hyps=2) == [whole[i][:2] for i in order[:9]]
    assert Sample(np.arange(20), seed=8) != whole
    flat = [tuple(hyp) for hyps in whole for hyp in hyps if len(hyp) > 4]
    assert len(set(flat)) == len(flat) > 10


def test_sentences_that_leave_change_no_sample(make_table, make_scorer, run_search, monkeypatch):
    table = make_table(vocab=12, sentences=20, eos_bias=1.0)
    limits = np.random.RandomState(1).randint(0, 12, size=20)
    options = dict(example_ids=tf.range(20), seed=1, num_hyps=2)
    scorer = make_scorer(table, range(20), attention=True)
    sampling.sample(scorer, tf.constant(limits), **options)
    assert len(set(scorer.row_counts)) > 3 and scorer.row_counts[0] == 40
    found = run_search(sampling.sample, table, range(20), limits, True, **options)

    def AllStay(done):
        return tf.range(tf.size(done)), tf.zeros([0], tf.int32)

    monkeypatch.setattr(live_batch, 'select', AllStay)
    still = run_search(sampling.sample, table, range(20), limits, True, **options)
    for key, value in found.items():
        np.testing.assert_allclose(value, still[key], rtol=1e-6, err_msg=key)
    assert (found.scores[limits == 0] == -np.inf).all()


def test_scores_of_samples_are_those_of_the_model(make_table, run_search):
    table = make_table(vocab=12, sentences=5)
    found = run_search(
        sampling.sample,
        table,
        range(5),
        [6] * 5,
        attention=True,
        example_ids=tf.range(5),
        seed=3,
        num_hyps=4,
        temperature=2.0,
        keep=6,
        length_normalization=0.5,
    )
    for sentence in range(5):
        for hyp in range(4):
            tokens = found.ids[sentence, hyp, : found.lengths[sentence, hyp]].tolist()
            expected = table.score(sentence, tokens, alpha=0.5)
            np.testing.assert_allclose(found.scores[sentence, hyp], expected, rtol=1e-5)
            attention = [table.attend(sentence, tokens[:i]) for i in range(len(tokens))]
            np.testing.assert_allclose(
                found.attention[sentence, hyp, : len(tokens)],
                np.reshape(attention, [-1, 3]),
                atol=1e-5,
            )


N = 40000
LOGITS = np.random.RandomState(4).normal(size=[30]).astype(np.float32) * 2


def Frequencies(**options):
    draws = (np.arange(N, dtype=np.float32) + 0.5) / N
    logits = tf.tile(tf.constant(LOGITS)[tf.newaxis], [N, 1])
    ids = sampling.sample_tokens(logits, tf.constant(draws), **options).numpy()
    return np.bincount(ids, minlength=30) / N


def Softmax(x):
    p = np.exp(x.astype(np.float64) - x.max())
    return p / p.sum()


# The draws are evenly spaced, so frequencies are exact to 1 / N, not to sqrt(p / N).
@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_temperature_divides_logits(temperature):
    expected = Softmax(LOGITS / temperature)
    np.testing.assert_allclose(Frequencies(temperature=temperature), expected, atol=1.5 / N)


def test_top_k_draws_from_the_k_best():
    expected = Softmax(LOGITS) * (LOGITS >= np.sort(LOGITS)[-4])
    np.testing.assert_allclose(Frequencies(keep=4), expected / expected.sum(), atol=1.5 / N)
    np.testing.assert_allclose(Frequencies(keep=100), Softmax(LOGITS), atol=1.5 / N)


@pytest.mark.parametrize('keep, temperature', [(None, 1.0), (None, 2.0), (5, 1.0)])
def test_nucleus_is_the_smallest_set_that_reaches_p(keep, temperature):
    probs = Softmax(LOGITS / temperature)
    if keep:
        probs *= probs >= np.sort(probs)[-keep]
        probs /= probs.sum()
    order = np.argsort(-probs)
    count = 1 + int(np.searchsorted(np.cumsum(probs[order]), 0.7))
    assert 1 < count < (keep or 30)
    expected = np.zeros(30)
    expected[order[:count]] = probs[order[:count]] / probs[order[:count]].sum()
    got = Frequencies(nucleus=0.7, keep=keep, temperature=temperature)
    np.testing.assert_allclose(got, expected, atol=1.5 / N)


def test_a_token_without_probability_is_not_drawn_at_either_end():
    logits = tf.constant([[-1e9, -1e9, 0.0, 0.0, -1e9]] * 2)
    draws = tf.constant([0.0, np.nextafter(np.float32(1), np.float32(0))])
    assert sampling.sample_tokens(logits, draws).numpy().tolist() == [2, 3]


def test_draws_are_uniform_and_independent():
    draws = sampling.uniform_draws(5, tf.range(40), 3, tf.constant(100)).numpy()
    assert draws.shape == (40, 3, 128) and draws.min() >= 0 and draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0] / draws.size
    np.testing.assert_allclose(counts, 0.05, atol=0.01)
    # 120 rows of 128: the correlation of any two is about 0 +- 0.09.
    correlation = np.corrcoef(draws.reshape(120, 128)) - np.eye(120)
    assert np.abs(correlation).max() < 0.45


def test_draws_do_not_depend_on_how_many_are_asked_for():
    many = sampling.uniform_draws(5, tf.constant([9, 4, 2**40]), 3, tf.constant(130)).numpy()
    few = sampling.uniform_draws(5, tf.constant([2**40]), 1, tf.constant(20)).numpy()
    np.testing.assert_array_equal(few[0, 0], many[2, 0, :64])
