"""One set of Params for all searches."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.decoding import beam_search, sampling, search


def Build(**values):
    return search.Search.Params().Set(**values).Instantiate()


def test_limits_come_from_each_source_alone():
    limits = Build(max_ratio=1.5, max_steps=4).MaxLengths(tf.constant([0, 1, 2, 3, 40]))
    assert limits.numpy().tolist() == [0, 5, 7, 8, 64]
    assert Build(max_ratio=0.0, max_steps=9).MaxLengths(tf.constant([5]))[0] == 9


@pytest.mark.parametrize(
    'method, same, extra',
    [
        ('greedy', lambda s, m: sampling.greedy_search(s, m, 0.6), {}),
        ('beam', lambda s, m: beam_search.beam_search(s, m, 3, 2, 0.6, 0.1), {'num_hyps': 2}),
        (
            'sample',
            lambda s, m: sampling.sample(s, m, tf.constant([5, 9]), 11, 2, 0.9, 4, 0.8, 0.6),
            {'num_hyps': 2},
        ),
    ],
)
def test_method_chooses_the_search_and_params_reach_it(
    make_table, make_scorer, method, same, extra
):
    built = Build(
        method=method,
        beam_size=3,
        length_normalization=0.6,
        coverage_penalty=0.1,
        temperature=0.9,
        top_k=4,
        top_p=0.8,
        seed=11,
        **extra,
    )
    table, limits = make_table(), tf.constant([4, 7])
    got = built.Decode(make_scorer(table, [0, 1], True), limits, example_ids=tf.constant([5, 9]))
    expected = same(make_scorer(table, [0, 1], True), limits)
    for key in ('ids', 'lengths', 'scores', 'attention'):
        np.testing.assert_array_equal(got[key], expected[key])


def test_without_attention_the_result_says_none(make_table, make_scorer):
    got = Build().Decode(make_scorer(make_table(), [0]), tf.constant([3]))
    assert got.attention is None


def test_samples_need_ids(make_table, make_scorer):
    with pytest.raises(ValueError, match='method=sample needs example_ids'):
        Build(method='sample').Decode(make_scorer(make_table(), [0]), tf.constant([3]))


@pytest.mark.parametrize(
    'values, message',
    [
        ({'beam_size': 0}, 'beam_size=0 must be at least 1'),
        ({'num_hyps': 2}, 'num_hyps=2 must be 1 with method=greedy'),
        ({'method': 'beam', 'num_hyps': 5}, 'num_hyps=5 must be at most beam_size=4'),
        ({'method': 'sample', 'num_hyps': 0}, 'num_hyps=0 must be at least 1'),
        ({'length_normalization': -0.1}, 'length_normalization=-0.1 must be at least 0'),
        ({'coverage_penalty': -0.1}, 'coverage_penalty=-0.1 must be at least 0'),
        ({'max_ratio': -1.0}, 'max_ratio=-1.0 must be at least 0'),
        ({'max_steps': 0}, 'max_steps=0 must be at least 1'),
        ({'temperature': 0.0}, "temperature=0.0 must be above 0 .*method='greedy'"),
        ({'top_k': 0}, 'top_k=0 must be at least 1 .None'),
        ({'top_p': 0.0}, 'top_p=0.0 must be above 0 and at most 1'),
        ({'top_p': 1.5}, 'top_p=1.5 must be above 0 and at most 1'),
    ],
)
def test_values_out_of_range_are_configuration_errors(values, message):
    with pytest.raises(hyperparams.ConfigError, match=message + '.*test_search.py:'):
        Build(**values)


def test_a_run_may_go_on_with_another_search():
    p = search.Search.Params()
    assert {p.ResumeKind(key) for key in p.GetKeys()} == {'free'}
