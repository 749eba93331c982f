"""Beam search against every hypothesis there is, and against beam search by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding import beam_search as beam_search_lib, live_batch, scorers
from lingvo_lite.nested_map import NestedMap

beam_search = beam_search_lib.beam_search


def hypotheses(found, sentence):
    """[(score, tokens)] of what there is, in the order returned."""
    rows = zip(found.scores[sentence], found.ids[sentence], found.lengths[sentence])
    return [(score, ids[:length].tolist()) for score, ids, length in rows if score > -np.inf]


def check_equal(found, sentence, expected):
    got = hypotheses(found, sentence)
    assert [tokens for _, tokens in got] == [tokens for _, tokens in expected]
    np.testing.assert_allclose([s for s, _ in got], [s for s, _ in expected], atol=2e-5)


@pytest.mark.parametrize('alpha, beta', [(0.0, 0.0), (1.2, 0.0), (0.6, 0.4)])
def test_a_beam_wide_enough_finds_the_best_of_all_hypotheses(make_table, run_search, alpha, beta):
    table = make_table(vocab=5)
    limits = [1, 2, 3, 4]
    found = run_search(
        beam_search,
        table,
        range(4),
        limits,
        attention=beta > 0,
        beam_size=64,
        num_hyps=7,
        length_normalization=alpha,
        coverage_penalty=beta,
    )
    for sentence, limit in enumerate(limits):
        expected = table.enumerate(sentence, limit, alpha, beta)[:7]
        check_equal(found, sentence, expected)


@pytest.mark.parametrize('beam', [1, 2, 4])
@pytest.mark.parametrize('alpha', [0.0, 1.0])
def test_a_narrow_beam_finds_what_a_search_by_hand_finds(make_table, run_search, beam, alpha):
    table = make_table(vocab=11, sentences=24, eos_bias=1.0)
    limits = [1 + i % 9 for i in range(24)]
    found = run_search(
        beam_search,
        table,
        range(24),
        limits,
        beam_size=beam,
        num_hyps=beam,
        length_normalization=alpha,
    )
    for sentence, limit in enumerate(limits):
        expected = table.beam_search(sentence, limit, beam, beam, alpha)
        check_equal(found, sentence, expected)


def test_coverage_ranks_finished_hypotheses_as_by_hand(make_table, run_search):
    table = make_table(vocab=9, sentences=12, source_time=6, eos_bias=0.5)
    options = dict(length_normalization=0.5, coverage_penalty=0.7)
    found = run_search(
        beam_search, table, range(12), [7] * 12, True, beam_size=3, num_hyps=2, **options
    )
    plain = run_search(beam_search, table, range(12), [7] * 12, beam_size=3, num_hyps=2)
    for sentence in range(12):
        check_equal(found, sentence, table.beam_search(sentence, 7, 3, 2, 0.5, 0.7))
    assert any(hypotheses(found, i)[0][1] != hypotheses(plain, i)[0][1] for i in range(12))


def test_hypotheses_do_not_depend_on_the_batch(make_table, run_search):
    table = make_table(vocab=13, sentences=32, eos_bias=1.0)
    rng = np.random.RandomState(5)
    limits = rng.randint(1, 12, size=32)
    options = dict(beam_size=3, num_hyps=3, length_normalization=0.8)
    whole = run_search(beam_search, table, range(32), limits, **options)
    order = rng.permutation(32)
    for some in (order[:1], order[:7], order[7:14]):
        found = run_search(beam_search, table, some, limits[some], **options)
        for row, sentence in enumerate(some):
            check_equal(found, row, hypotheses(whole, sentence))


def all_stay(done):
    """In place of live_batch.select."""
    return tf.range(tf.size(done)), tf.zeros([0], tf.int32)


def test_finished_sentences_leave_and_nothing_else_changes(
    make_table, make_scorer, run_search, monkeypatch
):
    table = make_table(vocab=13, sentences=20, eos_bias=1.0)
    limits = np.random.RandomState(3).randint(1, 15, size=20)
    options = dict(beam_size=3, num_hyps=2, length_normalization=0.8)
    scorer = make_scorer(table, range(20), attention=True)
    beam_search(scorer, tf.constant(limits), **options)
    assert len(set(scorer.row_counts)) > 3 and scorer.row_counts[0] == 60
    found = run_search(beam_search, table, range(20), limits, True, **options)
    monkeypatch.setattr(live_batch, 'select', all_stay)
    for key, value in run_search(beam_search, table, range(20), limits, True, **options).items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_the_n_best_are_sorted_and_distinct(make_table, run_search):
    table = make_table(vocab=9, sentences=8)
    found = run_search(beam_search, table, range(8), [6] * 8, beam_size=8, num_hyps=8)
    for sentence in range(8):
        got = hypotheses(found, sentence)
        assert len({tuple(tokens) for _, tokens in got}) == len(got) == 8
        assert [s for s, _ in got] == sorted((s for s, _ in got), reverse=True)


def test_no_hypothesis_beyond_those_that_are_possible(make_table, run_search):
    table = make_table(vocab=3, sentences=2, padded=5)
    found = run_search(beam_search, table, range(2), [1, 2], beam_size=6, num_hyps=4)
    # With limit 1 only </s>; with limit 2 also one token in front of it: 0 or 2.
    assert hypotheses(found, 0) == [(found.scores[0, 0], [])]
    assert sorted(tokens for _, tokens in hypotheses(found, 1)) == [[], [0], [2]]
    assert (found.scores[0, 1:] == -np.inf).all() and (found.lengths[0, 1:] == 0).all()


def test_tokens_that_pad_the_vocabulary_are_never_chosen(make_table, run_search):
    table = make_table(vocab=3, padded=5)
    found = run_search(beam_search, table, range(4), [4] * 4, beam_size=8, num_hyps=8)
    assert found.ids.max() < 3
    for sentence in range(4):
        check_equal(found, sentence, table.beam_search(sentence, 4, 8, 8))


def test_at_its_limit_a_hypothesis_is_closed_and_pays_for_it(make_table, run_search):
    table = make_table(eos_bias=-30.0)
    found = run_search(beam_search, table, [0, 1, 2], [5, 3, 1], beam_size=3)
    np.testing.assert_array_equal(found.lengths[:, 0], [4, 2, 0])
    for row in range(3):
        ((score, tokens),) = hypotheses(found, row)
        assert score < -20
        np.testing.assert_allclose(score, table.score(row, tokens), rtol=1e-5)


def test_fill_rows_get_no_hypothesis_and_take_no_step(make_table, make_scorer, run_search):
    table = make_table()
    found = run_search(beam_search, table, [0, 1, 2], [0, 6, 0], beam_size=2, num_hyps=2)
    alone = run_search(beam_search, table, [1], [6], beam_size=2, num_hyps=2)
    assert hypotheses(found, 0) == hypotheses(found, 2) == []
    assert hypotheses(found, 1) == hypotheses(alone, 0)
    assert (found.lengths[[0, 2]] == 0).all() and (found.ids[[0, 2]] == table.eos_id).all()
    scorer = make_scorer(table, [0, 1])
    nothing = beam_search(scorer, tf.constant([0, 0]), beam_size=2, num_hyps=2)
    assert scorer.row_counts == [] and nothing.ids.shape == [2, 2, 0]


def test_ids_behind_the_end_are_eos(make_table, run_search):
    table = make_table(vocab=11, sentences=9, eos_bias=1.0)
    found = run_search(beam_search, table, range(9), [1 + i for i in range(9)], beam_size=3)
    assert found.ids.shape[2] == found.lengths.max() > found.lengths.min()
    behind = np.arange(found.ids.shape[2]) >= found.lengths[:, :, np.newaxis]
    assert (found.ids[behind] == table.eos_id).all()
    assert (found.ids[~behind] != table.eos_id).all()


class FixedScorer(scorers.Scorer):
    """log-probabilities by position: [steps, vocab], the same for all sentences and prefixes."""

    bos_id, eos_id = 0, 1

    def __init__(self, probs, batch=1):
        self.log_probs, self.batch, self.steps = np.log(np.float32(probs)), batch, 0

    def Init(self):
        return NestedMap(cache=NestedMap(), source=NestedMap())

    def Step(self, ids, position, state):
        self.steps += 1
        row = tf.gather(self.log_probs, tf.minimum(position, len(self.log_probs) - 1))
        return tf.tile(row[tf.newaxis], [tf.size(ids), 1]), state, None


def test_stops_as_soon_as_no_open_hypothesis_can_win():
    # After one step </s> has log 0.6 / lp(1) = -0.511 and the best open hypothesis log 0.3. At a
    # limit of 9 it could reach log 0.3 / lp(9) = -0.516, at 10 log 0.3 / lp(10) = -0.482.
    probs = [[0.1, 0.6, 0.3]] + [[0.001, 0.001, 0.998]] * 8 + [[0.001, 0.998, 0.001]]
    steps = {}
    for limit in (9, 10):
        scorer = FixedScorer(probs)
        found = beam_search(scorer, tf.constant([limit]), 2, length_normalization=1.0)
        steps[limit] = scorer.steps, found.lengths.numpy().tolist()
    assert steps == {9: (1, [[0]]), 10: (10, [[9]])}


def test_the_n_best_must_be_safe_before_it_stops():
    # The best is found at step 1, the second best at step 2, and then nothing open can pass it.
    for n, steps in ((1, 1), (2, 2)):
        scorer = FixedScorer([[0.1, 0.6, 0.3]])
        beam_search(scorer, tf.constant([50]), 2, n)
        assert scorer.steps == steps


def test_ties_go_to_the_earlier_the_lower_beam_and_the_lower_token():
    scorer = FixedScorer([[0.25, 0.25, 0.25, 0.25]])
    found = beam_search(scorer, tf.constant([3]), beam_size=4, num_hyps=4)
    # Candidates of step 1 in order: 0, </s>, 2, 3. Of step 2: 00, 0</s>, 02, 03, then those of 2.
    assert found.lengths.numpy().tolist() == [[0, 1, 2, 2]]
    assert found.ids[0].numpy().tolist() == [[1, 1], [0, 1], [0, 0], [0, 2]]


def test_attention_follows_its_hypothesis(make_table, run_search):
    table = make_table(vocab=9, sentences=10, source_time=4, eos_bias=0.5)
    found = run_search(
        beam_search, table, range(10), [2 + i for i in range(10)], True, beam_size=3, num_hyps=3
    )
    assert found.attention.shape == (*found.ids.shape, 4)
    for sentence in range(10):
        for hyp, (_, tokens) in enumerate(hypotheses(found, sentence)):
            expected = [table.attend(sentence, tokens[:i]) for i in range(len(tokens))]
            got = found.attention[sentence, hyp]
            np.testing.assert_allclose(got[: len(tokens)], np.reshape(expected, [-1, 4]), atol=1e-5)
            assert (got[len(tokens) :] == 0).all()


def test_one_trace_for_all_batches(make_table, make_scorer):
    table = make_table(sentences=9)
    traces = []

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)] * 2)
    def Graph(sentences, limits):
        traces.append(1)
        return beam_search(make_scorer(table, sentences, True), limits, beam_size=2).ids

    for size in (1, 9, 4, 0):
        Graph(np.arange(size, dtype=np.int32), np.full([size], 5, np.int32))
    assert len(traces) == 1


def test_coverage_penalty_without_attention_is_an_error(make_table, make_scorer):
    scorer = make_scorer(make_table(), [0])
    with pytest.raises(ValueError, match='coverage_penalty=0.2 needs attention, which TableScorer'):
        beam_search(scorer, tf.constant([3]), beam_size=2, coverage_penalty=0.2)


def test_logits_of_another_type_are_an_error(make_table, make_scorer):
    class Half(make_scorer):
        def Step(self, ids, position, state):
            logits, state, attention = super().Step(ids, position, state)
            return tf.cast(logits, tf.bfloat16), state, attention

    with pytest.raises(ValueError, match=r'Half.Step must return float32 .* got bfloat16'):
        beam_search(Half(make_table(), [0]), tf.constant([3]), beam_size=2)
