"""An ensemble is one scorer whose probabilities are the mean of its parts'."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding import beam_search, scorers


@pytest.fixture(scope='module')
def tables(make_table):
    one = make_table(vocab=8, sentences=12, seed=1, eos_bias=-1.0)
    two = make_table(vocab=8, sentences=12, seed=2, eos_bias=-1.0)
    two.paddings = one.paddings
    return one, two


@pytest.mark.parametrize('beta', [0.0, 0.5])
def test_beam_search_over_two_models_equals_search_by_hand(tables, make_mean, make_scorer, beta):
    @tf.function(autograph=False)
    def Graph(limits):
        parts = [make_scorer(table, range(12), attention=beta > 0) for table in tables]
        ensemble = scorers.Ensemble(parts)
        found = beam_search.beam_search(ensemble, limits, 3, 2, 0.6, beta)
        return found.ids, found.lengths, found.scores

    limits = [1 + i % 7 for i in range(12)]
    ids, lengths, scores = (x.numpy() for x in Graph(tf.constant(limits)))
    mean = make_mean(tables)
    unlike_either = 0
    for sentence, limit in enumerate(limits):
        expected = mean.beam_search(sentence, limit, 3, 2, 0.6, beta)
        for hyp, (score, tokens) in enumerate(expected):
            assert ids[sentence, hyp, : lengths[sentence, hyp]].tolist() == tokens
            np.testing.assert_allclose(scores[sentence, hyp], score, atol=2e-5)
        alone = [table.beam_search(sentence, limit, 3, 1, 0.6, beta)[0][1] for table in tables]
        unlike_either += expected[0][1] not in alone
    assert unlike_either


def test_attention_only_if_every_part_gives_it(tables, make_scorer):
    both = [make_scorer(table, [0, 1], attention=True) for table in tables]
    assert scorers.Ensemble(both).source_paddings is both[0].source_paddings
    assert scorers.Ensemble([both[0], make_scorer(tables[1], [0, 1])]).source_paddings is None


def test_parts_that_do_not_fit_are_an_error(make_table, make_scorer):
    one, two = make_scorer(make_table(vocab=8), [0]), make_scorer(make_table(vocab=9), [0])
    with pytest.raises(ValueError, match='vocabularies of 8, 9 tokens'):
        beam_search.beam_search(scorers.Ensemble([one, two]), tf.constant([3]), beam_size=2)
    two.eos_id = 5
    with pytest.raises(ValueError, match=r'\(2, 1\), \(2, 5\)'):
        scorers.Ensemble([one, two])
    with pytest.raises(ValueError, match='at least one scorer'):
        scorers.Ensemble([])
