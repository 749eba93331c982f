"""CTC search against all alignments there are, and against a prefix search by hand."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.decoding.ctc import search as ctc
from lingvo_lite.decoding.language_models import fusion
from lingvo_lite.nested_map import NestedMap

BOS, EOS = 1, 2


def utterances(batch, time, vocab, seed=0, sharp=1.5):
    """log-probabilities [batch, time, vocab] of random utterances, their paddings and lengths."""
    rng = np.random.RandomState(seed)
    logits = rng.normal(size=[batch, time, vocab]) * sharp
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    lengths = rng.randint(1, time + 1, size=batch)
    lengths[0] = time
    paddings = (np.arange(time) >= lengths[:, None]).astype(np.float32)
    return log_probs.astype(np.float32), paddings, lengths


def collapse(alignment):
    """The text of an alignment."""
    runs = [token for token, _ in itertools.groupby(alignment)]
    return tuple(token for token in runs if token)


def all_texts(log_probs):
    """{text: log-probability}, over every alignment of log_probs [time, vocab]."""
    time, vocab = log_probs.shape
    found = collections.defaultdict(lambda: -np.inf)
    for alignment in itertools.product(range(vocab), repeat=time):
        score = log_probs[range(time), alignment].astype(np.float64).sum()
        text = collapse(alignment)
        found[text] = np.logaddexp(found[text], score)
    return found


def by_hand(log_probs, beam_size, add=lambda prefix: 0.0, last=lambda text: 0.0, tokens=None):
    """Prefix beam search with dictionaries; [(score, text)], best first."""
    beam = {(): (0.0, -np.inf)}
    for frame in log_probs.astype(np.float64):
        following = collections.defaultdict(lambda: [-np.inf, -np.inf])
        most_probable = list(1 + np.argsort(-frame[1:]))
        if tokens:
            most_probable.remove(EOS)  # with a language model no frame says it
            most_probable = most_probable[:tokens]
        for prefix, (blank, token) in beam.items():
            total = np.logaddexp(blank, token)
            stays = following[prefix]
            stays[0] = np.logaddexp(stays[0], total + frame[0])
            for c in range(1, len(frame)):
                repeats = prefix[-1:] == (c,)
                if repeats:
                    stays[1] = np.logaddexp(stays[1], token + frame[c])
                if c not in most_probable and (*prefix, c) not in beam:
                    continue
                longer = following[(*prefix, c)]
                longer[1] = np.logaddexp(longer[1], (blank if repeats else total) + frame[c])
        ranked = sorted(following.items(), key=lambda kv: -np.logaddexp(*kv[1]) - add(kv[0]))
        beam = dict(ranked[:beam_size])
    scored = [(np.logaddexp(*v) + add(k) + last(k), k) for k, v in beam.items()]
    return sorted(scored, key=lambda item: -item[0])


def search(log_probs, paddings, *args, **kwargs):
    """search.prefix_beam_search in a graph of unknown batch and time."""
    vocab = log_probs.shape[-1]

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None, vocab], tf.float32),
            tf.TensorSpec([None, None], tf.float32),
        ],
    )
    def Graph(log_probs, paddings):
        return dict(ctc.prefix_beam_search(log_probs, paddings, *args, **kwargs))

    found = Graph(tf.constant(log_probs), tf.constant(paddings))
    return NestedMap({key: value.numpy() for key, value in found.items()})


def hypotheses(found, row):
    rows = zip(found.scores[row], found.ids[row], found.lengths[row])
    return [(s, tuple(ids[:length].tolist())) for s, ids, length in rows if s > -np.inf]


def check_equal(got, expected, atol=2e-5):
    assert [text for _, text in got] == [text for _, text in expected]
    np.testing.assert_allclose([s for s, _ in got], [s for s, _ in expected], atol=atol)


class Bigram(fusion.LanguageModel):
    """Random log-probabilities of a token after another, in NumPy and in the graph."""

    bos_id, eos_id = BOS, EOS

    def __init__(self, vocab, seed=0, scale=2.0, closed=()):
        x = np.random.RandomState(seed).normal(size=[vocab, vocab]) * scale
        x[:, [0, BOS, *closed]] = -1e9
        self.table = (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(np.float32)
        self.rows = []  # of each step, where steps are run eagerly

    def InitStates(self, rows):
        # A state that notices if it does not follow its prefix.
        return NestedMap(seen=tf.zeros([rows, 2], tf.int32))

    def ExtendStep(self, ids, state):
        self.rows.append(ids.shape[0])
        seen = tf.stack([state.seen[:, 1], ids], axis=1)
        bonus = tf.cast(seen[:, :1], tf.float32) * 0.01  # of the token before the last
        return tf.gather(self.table, ids) + bonus, NestedMap(seen=seen)

    def add(self, prefix):
        """What the tokens of a prefix add; </s> is none of them."""
        if EOS in prefix:
            return -1e9
        closed = [0, BOS, *prefix]
        return sum(
            self.table[closed[i - 1], closed[i]] + 0.01 * closed[i - 2]
            for i in range(2, len(closed))
        )

    def last(self, text):
        """What the end of a text adds."""
        closed = [0, BOS, *text]
        return self.table[closed[-1], EOS] + 0.01 * closed[-2]


def test_tokens_that_cannot_be_change_no_other_text():
    """Probabilities of 0, against all alignments: log-probabilities of -inf are no numbers."""
    rng = np.random.RandomState(3)
    cases = [[[0, 1, 0], [0.4, 0, 0.6], [0.8, 0.2, 0]]]
    for _ in range(60):
        p = rng.rand(rng.randint(1, 5), 3) * (rng.rand(3) > 0.4)
        p[p.sum(axis=1) == 0, 0] = 1.0
        cases.append(p / p.sum(axis=1, keepdims=True))
    with np.errstate(divide='ignore'):
        cases = [np.log(np.asarray(case, np.float32)) for case in cases]
    for log_probs in cases:
        texts = all_texts(log_probs)
        found = ctc.prefix_beam_search(log_probs[np.newaxis], np.zeros([1, len(log_probs)]), 40)
        (best,) = hypotheses(NestedMap({k: v.numpy() for k, v in found.items()}), 0)
        assert best[0] == pytest.approx(max(texts.values()), abs=1e-5)
        assert texts[best[1]] == pytest.approx(best[0], abs=1e-5)


def test_a_beam_wide_enough_gives_the_probabilities_of_all_texts():
    log_probs, paddings, lengths = utterances(5, 5, 4)
    found = search(log_probs, paddings, beam_size=400, num_hyps=400)
    for row, length in enumerate(lengths):
        expected = all_texts(log_probs[row, :length])
        got = {text: score for score, text in hypotheses(found, row)}
        assert set(got) == set(expected)
        for text, score in expected.items():
            np.testing.assert_allclose(got[text], score, atol=2e-5)
        np.testing.assert_allclose(np.logaddexp.reduce(list(got.values())), 0.0, atol=1e-4)
        scores = [score for score, _ in hypotheses(found, row)]
        assert scores == sorted(scores, reverse=True)


def test_with_a_language_model_too():
    log_probs, paddings, lengths = utterances(4, 4, 5, seed=1)
    lm = Bigram(5)
    found = search(log_probs, paddings, beam_size=500, num_hyps=20, lm=lm)
    unlike = 0
    for row, length in enumerate(lengths):
        texts = all_texts(log_probs[row, :length])
        scored = [(s + lm.add(text) + lm.last(text), text) for text, s in texts.items()]
        expected = [item for item in sorted(scored, key=lambda item: -item[0]) if item[0] > -1e8]
        check_equal(hypotheses(found, row), expected[:20])
        unlike += expected[0][1] != max(texts, key=texts.get)
    assert unlike  # the language model changes the best text


@pytest.mark.parametrize('beam_size', [1, 2, 5])
@pytest.mark.parametrize('with_lm', [False, True])
def test_a_narrow_beam_finds_what_a_search_by_hand_finds(beam_size, with_lm):
    log_probs, paddings, lengths = utterances(12, 15, 7, seed=beam_size)
    lm = Bigram(7, scale=1.0) if with_lm else None
    found = search(log_probs, paddings, beam_size, beam_size, lm=lm)
    rules = (lm.add, lm.last) if with_lm else ()
    for row, length in enumerate(lengths):
        expected = by_hand(log_probs[row, :length], beam_size, *rules)
        expected = [item for item in expected if item[0] > -1e8]
        check_equal(hypotheses(found, row), expected, atol=1e-4)


def test_tokens_that_cannot_win_are_not_looked_at_and_change_nothing():
    log_probs, paddings, lengths = utterances(8, 12, 40, seed=3, sharp=1.0)
    found = search(log_probs, paddings, beam_size=3, num_hyps=3)  # looks at 8 of 40
    for row, length in enumerate(lengths):
        check_equal(hypotheses(found, row), by_hand(log_probs[row, :length], 3), atol=1e-4)


@pytest.mark.parametrize('tokens', [1, 2])
def test_only_the_most_probable_tokens_of_a_frame_make_new_prefixes(tokens):
    log_probs, paddings, lengths = utterances(8, 10, 12, seed=4, sharp=1.0)
    lm = Bigram(12)
    found = search(log_probs, paddings, 4, 4, lm=lm, tokens_per_frame=tokens)
    unlike = 0
    for row, length in enumerate(lengths):
        expected = by_hand(log_probs[row, :length], 4, lm.add, lm.last, tokens)
        check_equal(hypotheses(found, row), [e for e in expected if e[0] > -1e8], atol=1e-4)
        unlike += by_hand(log_probs[row, :length], 4, lm.add, lm.last)[0][1] != expected[0][1]
    assert unlike


@pytest.mark.parametrize('with_lm', [False, True])
def test_hypotheses_do_not_depend_on_the_batch(with_lm):
    log_probs, paddings, lengths = utterances(32, 20, 9, seed=6)
    options = dict(beam_size=4, num_hyps=4, lm=Bigram(9) if with_lm else None)
    whole = search(log_probs, paddings, **options)
    order = np.random.RandomState(5).permutation(32)
    for some in (order[:1], order[:7], order[7:14]):
        longest = lengths[some].max()
        found = search(log_probs[some, :longest], paddings[some, :longest], **options)
        for row, utterance in enumerate(some):
            check_equal(hypotheses(found, row), hypotheses(whole, utterance), atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter():
    log_probs, paddings, _ = utterances(6, 9, 5, seed=7)
    noisy = np.where(paddings[:, :, None] > 0, np.float32(-0.3), log_probs)
    for run in (lambda x: search(x, paddings, 3, 3), lambda x: ctc.greedy(x, paddings)):
        one, other = run(log_probs), run(noisy)
        for key in ('ids', 'lengths', 'scores'):
            np.testing.assert_array_equal(one[key], other[key])


def test_rows_of_padding_get_no_hypothesis():
    log_probs, paddings, _ = utterances(3, 6, 5)
    paddings[1] = 1.0
    found = search(log_probs, paddings, 3, 2, lm=Bigram(5))
    assert hypotheses(found, 1) == [] and found.lengths[1].tolist() == [0, 0]
    assert (found.ids[1] == 0).all() and len(hypotheses(found, 0)) == 2
    paddings[:] = 1.0
    assert search(log_probs, paddings, 3, 2).ids.shape == (3, 2, 0)
    assert search(log_probs[:, :0], paddings[:, :0], 3, 2).ids.shape == (3, 2, 0)


def test_silence_is_the_empty_text():
    log_probs = np.log(np.tile(np.float32([0.98, 0.01, 0.01]), [1, 50, 1]))
    found = search(log_probs, np.zeros([1, 50], np.float32), beam_size=3)
    assert hypotheses(found, 0)[0][1] == ()
    assert ctc.greedy(tf.constant(log_probs), tf.zeros([1, 50])).lengths.numpy() == [[0]]


def test_a_long_utterance_stays_finite_and_normalised():
    log_probs, paddings, _ = utterances(2, 700, 6, seed=8, sharp=6.0)
    found = search(log_probs, paddings, beam_size=6, num_hyps=6)
    assert np.isfinite(found.scores).all() and (found.scores <= 0).all()
    texts = [text for _, text in hypotheses(found, 0)]
    assert len(set(texts)) == 6  # no prefix stands twice
    (score, text), *_ = by_hand(log_probs[0], 6)
    assert texts[0] == text
    np.testing.assert_allclose(found.scores[0, 0], score, rtol=1e-5)


def test_greedy_collapses_the_best_alignment():
    alignment = [0, 3, 3, 0, 3, 4, 4, 0, 0, 2]
    log_probs = np.full([1, 12, 5], -5.0, np.float32)
    for frame, token in enumerate(alignment):
        log_probs[0, frame, token] = -0.25
    log_probs[0, 10:, 1] = 0.0  # padding
    paddings = np.float32([[0] * 10 + [1] * 2])
    found = ctc.greedy(tf.constant(log_probs), tf.constant(paddings))
    assert found.ids.numpy().tolist() == [[[3, 3, 4, 2]]]
    assert found.lengths.numpy().tolist() == [[4]]
    np.testing.assert_allclose(found.scores, [[-2.5]])


def test_a_beam_beats_the_best_alignment():
    # Best alignment: blank blank (0.36); but 'a' has 0.24 + 0.24 + 0.16.
    log_probs = np.log(np.float32([[[0.6, 0.4], [0.6, 0.4]]]))
    paddings = np.zeros([1, 2], np.float32)
    assert ctc.greedy(tf.constant(log_probs), tf.constant(paddings)).ids.shape == [1, 1, 0]
    ((score, text),) = hypotheses(search(log_probs, paddings, beam_size=2), 0)
    assert text == (1,)
    np.testing.assert_allclose(np.exp(score), 0.64, rtol=1e-5)


def test_the_language_model_computes_for_new_prefixes_only():
    # One token, certain, in frame 2 of 6: one step for <s>, one for the prefixes that got it.
    log_probs = np.full([1, 6, 4], -30.0, np.float32)
    log_probs[0, :, 0] = 0.0
    log_probs[0, 2] = [-30.0, -60.0, -60.0, 0.0]
    lm = Bigram(4)
    found = ctc.prefix_beam_search(tf.constant(log_probs), tf.zeros([1, 6]), beam_size=1, lm=lm)
    assert found.ids.numpy().tolist() == [[[3]]]
    assert lm.rows == [1, 1]


def test_what_the_language_model_has_no_token_for_is_not_found():
    log_probs, paddings, _ = utterances(6, 8, 6, seed=9)
    found = search(log_probs, paddings, 4, 4, lm=Bigram(6, closed=[4]))
    assert not set(found.ids.ravel()) & {1, 4}
    assert set(search(log_probs, paddings, 4, 4).ids.ravel()) & {1, 4}


def test_the_params_say_how_to_search():
    log_probs, paddings, _ = utterances(3, 7, 6, seed=2)
    p = ctc.CtcSearch.Params()
    logits = log_probs + np.float32(3.0)
    got = p.Instantiate().Decode(tf.constant(logits), tf.constant(paddings))
    wanted = ctc.greedy(tf.constant(log_probs), tf.constant(paddings))
    np.testing.assert_array_equal(got.ids, wanted.ids)
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-5)
    with pytest.raises(ValueError, match="needs method='beam'"):
        p.Instantiate().Decode(tf.constant(logits), tf.constant(paddings), lm=Bigram(6))
    p.Set(method='beam', beam_size=3, num_hyps=2)
    got = p.Instantiate().Decode(tf.constant(logits), tf.constant(paddings), lm=Bigram(6))
    wanted = search(log_probs, paddings, 3, 2, lm=Bigram(6))
    np.testing.assert_array_equal(got.ids, wanted.ids)
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-5)


@pytest.mark.parametrize(
    ('values', 'error'),
    [
        ({'beam_size': 0}, 'beam_size=0 must be at least 1'),
        ({'num_hyps': 3}, 'num_hyps=3 must be 1 with method=greedy'),
        ({'method': 'beam', 'beam_size': 2, 'num_hyps': 3}, 'must be at most beam_size=2'),
        ({'tokens_per_frame': -1}, 'tokens_per_frame=-1 must be at least 0 .0 for all'),
    ],
)
def test_values_out_of_range_are_errors(values, error):
    with pytest.raises(hyperparams.ConfigError, match=error):
        ctc.CtcSearch.Params().Set(**values).Instantiate()
