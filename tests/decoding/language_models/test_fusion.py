"""A search with a language model is a search over the sum of both, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.decoding import beam_search, sampling, scorers
from lingvo_lite.decoding.language_models import fusion, fusion_params, ngram
from lingvo_lite.nested_map import NestedMap

VOCAB = 9


class Bigram(fusion.LanguageModel):
    """Scores of a token after another, with a state that must follow its hypothesis."""

    def __init__(self, bos_id, eos_id, vocab=VOCAB, seed=0, gain=0.0):
        self.bos_id, self.eos_id, self.largest_gain = bos_id, eos_id, gain
        x = np.random.RandomState(seed).uniform(-4.0, gain, size=[vocab, vocab])
        self.table = x.astype(np.float32)

    def InitStates(self, rows):
        return NestedMap(seen=tf.zeros([rows, 2], tf.int32))

    def ExtendStep(self, ids, state):
        seen = tf.stack([state.seen[:, 1], ids], axis=1)
        scores = tf.gather(self.table, ids) - 0.1 * tf.cast(seen[:, :1], tf.float32)
        return scores, NestedMap(seen=seen)

    def after(self, prefix):
        """What each token adds behind <s> and the prefix."""
        closed = [0, self.bos_id, *prefix]
        return self.table[closed[-1]] - 0.1 * closed[-2]


@pytest.fixture
def make_sum(make_table):
    """(table, the same with what a language model adds)."""

    def Make(lm, weight=1.0, **kwargs):
        plain = make_table(vocab=VOCAB, **kwargs)
        both = make_table(vocab=VOCAB, **kwargs)
        both.log_probs = lambda sentence, prefix: (
            plain.log_probs(sentence, prefix) + weight * lm.after(prefix)
        )
        return plain, both

    return Make


def run(search, make_scorer, table, sentences, limits, lm, **kwargs):
    """The search over Fusion of the table and lm, in a graph, as {sentence: hypotheses}."""

    @tf.function(autograph=False)
    def Graph(sentences, limits):
        found = search(fusion.Fusion(make_scorer(table, sentences), lm), limits, **kwargs)
        return found.ids, found.lengths, found.scores

    tensors = Graph(tf.constant(sentences, tf.int32), tf.constant(limits, tf.int32))
    ids, lengths, scores = (x.numpy() for x in tensors)
    return [
        [
            (scores[row, n], ids[row, n, : lengths[row, n]].tolist())
            for n in range(ids.shape[1])
            if scores[row, n] > -np.inf
        ]
        for row in range(len(sentences))
    ]


def check_equal(got, expected):
    assert [tokens for _, tokens in got] == [tokens for _, tokens in expected]
    np.testing.assert_allclose([s for s, _ in got], [s for s, _ in expected], atol=5e-5)


@pytest.mark.parametrize('alpha', [0.0, 0.8])
@pytest.mark.parametrize('gain', [0.0, 1.5])
def test_beam_search_adds_up_both(make_sum, make_scorer, alpha, gain):
    lm = Bigram(2, 1, gain=gain)
    plain, both = make_sum(lm, sentences=12)
    lm.table[:, 1] += 1.0
    limits = [1 + i % 8 for i in range(12)]
    got = run(
        beam_search.beam_search,
        make_scorer,
        plain,
        range(12),
        limits,
        lm,
        beam_size=3,
        num_hyps=3,
        length_normalization=alpha,
    )
    unlike = 0
    for sentence, limit in enumerate(limits):
        check_equal(got[sentence], both.beam_search(sentence, limit, 3, 3, alpha))
        unlike += got[sentence][0][1] != plain.beam_search(sentence, limit, 3, 1, alpha)[0][1]
    assert unlike


def test_a_search_goes_on_as_long_as_gains_may_still_pay(make_sum, make_scorer):
    # The first token costs 6, each further one gains 3: to end at once looks good for a while.
    lm = Bigram(2, 1, gain=3.0)
    lm.table[:] = 3.0
    lm.table[2] = -6.0
    lm.table[:, 1] = 0.0
    plain, both = make_sum(lm, sentences=6, eos_bias=1.0)
    args = (beam_search.beam_search, make_scorer, plain, range(6), [7] * 6)
    got = run(*args, lm, beam_size=3)
    expected = [both.beam_search(sentence, 7, 3, 1) for sentence in range(6)]
    for sentence in range(6):
        check_equal(got[sentence], expected[sentence])
    lm.largest_gain = 0.0
    hasty = run(*args, lm, beam_size=3)
    assert [h[0][1] for h in hasty] != [e[0][1] for e in expected]


def test_greedy_search_follows_the_sum(make_sum, make_scorer):
    lm = Bigram(2, 1, seed=1)
    plain, both = make_sum(lm, sentences=8)
    got = run(sampling.greedy_search, make_scorer, plain, range(8), [6] * 8, lm)
    for sentence in range(8):
        check_equal(got[sentence], both.beam_search(sentence, 6, 1, 1))


def test_an_ensemble_inside_is_the_mean_of_probabilities(
    make_table, make_mean, make_scorer, make_sum
):
    lm = Bigram(2, 1, seed=2)
    tables = [make_table(vocab=VOCAB, sentences=6, seed=s, eos_bias=1.0) for s in (1, 2)]
    tables[1].paddings = tables[0].paddings
    mean = make_mean(tables)
    both = make_mean(tables)
    both.log_probs = lambda sentence, prefix: (
        mean.log_probs(sentence, prefix) + 0.7 * lm.after(prefix)
    )

    def Build(_, sentences):
        return scorers.Ensemble([make_scorer(table, sentences) for table in tables])

    weighted = fusion.Weighted([(lm, 0.7)])
    got = run(beam_search.beam_search, Build, None, range(6), [6] * 6, weighted, beam_size=3)
    for sentence in range(6):
        check_equal(got[sentence], both.beam_search(sentence, 6, 3, 1))
    one = make_scorer(tables[0], [0])
    with pytest.raises(ValueError, match=r'fusion.Fusion\(Ensemble\(scorers\), lm\)'):
        scorers.Ensemble([fusion.Fusion(one, lm), one])


def test_attention_is_that_of_the_scorer(make_table, make_scorer):
    table = make_table(vocab=VOCAB, sentences=5, eos_bias=-5.0)
    both = fusion.Fusion(make_scorer(table, range(5), attention=True), Bigram(2, 1))
    found = beam_search.beam_search(both, tf.fill([5], 5), 3, 1, coverage_penalty=0.3)
    first = found.attention.numpy()[:, 0, 0]
    np.testing.assert_allclose(first, [table.attend(i, []) for i in range(5)], atol=1e-5)


# Sums of language models.


def scores(lm, text):
    """[position][vocab]: what each token adds behind <s> and each prefix of the text."""
    state, found = lm.InitStates(1), []
    for token in (lm.bos_id, *text):
        added, state = lm.ExtendStep(tf.constant([token]), state)
        found.append(added.numpy()[0])
    return np.array(found)


def test_terms_are_weighted_and_impossible_stays_impossible():
    one, two = Bigram(1, 2, seed=1), Bigram(1, 2, seed=2, vocab=VOCAB - 1)
    one.table[:, 4] = -1e9
    both = fusion.Weighted([(one, 0.01), (two, 2.0), (Bigram(1, 2, seed=3), 0.0)])
    got, mine, other = (scores(lm, [5, 6, 3]) for lm in (both, one, two))
    expected = 0.01 * mine[:, :-1] + 2.0 * other
    possible = np.arange(VOCAB - 1) != 4
    np.testing.assert_allclose(got[:, :-1][:, possible], expected[:, possible], rtol=1e-5)
    assert (got[:, 4] < -1e8).all()
    assert (got[:, -1] < -1e8).all()  # `two` does not have the last token


def test_gains_are_added_up_too():
    terms = [(Bigram(1, 2, gain=2.0), 0.5), (Bigram(1, 2, gain=1.0), 3.0), (Bigram(1, 2), 1.0)]
    assert fusion.Weighted(terms).largest_gain == 4.0


@pytest.mark.parametrize(
    ('tokens', 'text', 'words'),
    [
        (['', '', '', ' ', 'a', 'b'], [4, 5, 3, 4], [0, 0, 1, 1]),  # 'ab a'
        (['', '', '', ' ', 'a', 'b'], [3, 4, 3, 3], [0, 0, 1, 1]),  # ' a  '
        (['', '', '', '\u2581', '\u2581a', 'b'], [4, 5, 4, 4], [0, 0, 1, 2]),  # 'ab a a'
        (['', '', '', '\u2581', '\u2581a', 'b'], [3, 5, 3, 5], [0, 0, 1, 1]),  # 'b b'
        (['', '', '', ' ', 'a', 'b'], [0, 4, 0, 3], [0, 0, 0, 1]),  # a special id ends no word
    ],
)
def test_words_are_counted_where_they_end(tokens, text, words):
    count = fusion.WordCount(fusion.Vocabulary(tokens, 1, 2))
    got = scores(count, text)
    added = np.cumsum([got[i, token] for i, token in enumerate(text)])
    np.testing.assert_array_equal(added, words)
    spoken = ''.join(tokens[token].replace('\u2581', ' ') for token in text).split()
    assert added[-1] + got[-1, 2] == len(spoken)


def test_no_word_no_count():
    count = fusion.WordCount(fusion.Vocabulary(['', '', '', ' ', 'a'], 1, 2))
    assert scores(count, [])[0].tolist() == [0.0] * 5
    assert scores(count, [3])[1, 2] == 0.0


def test_what_does_not_fit_is_an_error(make_table, make_scorer):
    with pytest.raises(ValueError, match='at least one language model'):
        fusion.Weighted([])
    with pytest.raises(ValueError, match=r'weight of Bigram must be at least 0, got -0.5'):
        fusion.Weighted([(Bigram(1, 2), -0.5)])
    with pytest.raises(ValueError, match=r'\(1, 2\), \(2, 1\)'):
        fusion.Weighted([(Bigram(1, 2), 1.0), (Bigram(2, 1), 1.0)])
    with pytest.raises(ValueError, match=r'of \(2, 1\) and \(1, 2\)'):
        fusion.Fusion(make_scorer(make_table(), [0]), Bigram(1, 2))


# Params.

TOKENS = ['', '', '', '\ufffd', ' ', 'a', 'b']
ARPA = '\\data\\\nngram 1=3\n\\1-grams:\n-99 <s>\n-1 </s>\n-0.5 ab\n\\end\\\n'


@pytest.fixture
def build(tmp_path):
    (tmp_path / 'words.arpa').write_text(ARPA)

    def Build(**values):
        p = fusion_params.LmFusion.Params().Set(**values)
        # What was read back from text does the same.
        p = fusion_params.LmFusion.Params().FromText(p.ToText())
        return p.Instantiate(
            vocabulary=fusion.Vocabulary(TOKENS, 1, 2), find_data=lambda name: tmp_path / name
        )

    return Build


def test_params_name_the_model_and_its_weights(build):
    words = ngram.WordNGram.Params().Set(file='words.arpa')
    added = scores(build(lm=words, lm_weight=0.3, word_bonus=2.0).lm, [5, 6])
    np.testing.assert_allclose(added[2, 4], 0.3 * -0.5 * np.log(10) + 2.0, rtol=1e-5)
    only_lm = scores(build(lm=words, lm_weight=0.3).lm, [5, 6])
    np.testing.assert_allclose(added[2, 4] - only_lm[2, 4], 2.0, rtol=1e-5)


def test_a_bonus_needs_no_model_and_nothing_changes_nothing(build, make_table, make_scorer):
    assert scores(build(word_bonus=0.5).lm, [5])[1, 4] == 0.5
    nothing = build(lm=ngram.WordNGram.Params().Set(file='no such file'), lm_weight=0.0)
    scorer = make_scorer(make_table(), [0])
    assert nothing.lm is None and nothing.Around(scorer) is scorer
    scorer.bos_id, scorer.eos_id = 1, 2
    assert isinstance(build(word_bonus=0.5).Around(scorer), fusion.Fusion)


def test_negative_weights_are_errors(build):
    with pytest.raises(hyperparams.ConfigError, match=r'lm_weight=-0.1 must be at least 0'):
        build(lm_weight=-0.1)
    with pytest.raises(hyperparams.ConfigError, match=r'word_bonus=-1.0 must be at least 0'):
        build(word_bonus=-1.0)
