"""Means are weighted, merge exactly, and refuse what has no mean."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lingvo_lite.metrics import accuracy, base, bleu, mean


def Filled(pairs, metric=mean.Mean, name='loss'):
    filled = metric(name)
    for value, weight in pairs:
        filled.Update(value, weight)
    return filled


def test_is_weighted():
    rng = np.random.RandomState(0)
    values, weights = rng.normal(size=50), rng.randint(0, 9, size=50)
    got = Filled(zip(values, weights))
    np.testing.assert_allclose(got.value, np.average(values, weights=weights), rtol=1e-12)
    assert got.weight == weights.sum()
    assert got.Summary() == {'loss': got.value}


def test_merged_is_not_a_mean_of_means():
    few, many = Filled([(10.0, 1)]), Filled([(0.0, 3), (2.0, 6)])
    few.Merge(many)
    assert few.value == pytest.approx(22 / 10) and few.weight == 10
    assert many.value == pytest.approx(12 / 9)


def test_small_values_are_not_lost_among_many():
    # In float32 the sum would stop at 2 ** 24.
    got = Filled([(1.0, 2.0**24)] + [(1.0, 1.0)] * 100)
    assert got.weight == 2**24 + 100 and got.value == 1.0


def test_takes_scalars_of_numpy_and_its_summary_is_json():
    got = Filled([(np.float32(0.5), np.int64(3))])
    assert json.loads(json.dumps(got.Summary())) == {'loss': 0.5}


def test_what_stands_for_nothing_does_not_count():
    assert Filled([(math.nan, 0.0), (3.0, 2.0)]).value == 3.0


@pytest.mark.parametrize('weight', [-1.0, math.nan, math.inf])
def test_weights_without_meaning_are_an_error(weight):
    with pytest.raises(ValueError, match='loss: a weight must be finite and at least 0, got'):
        Filled([(1.0, weight)])


@pytest.mark.parametrize(
    'metric',
    [mean.Mean('x'), mean.LogPerplexity(), accuracy.Accuracy(), bleu.CorpusBleu(), bleu.ChrF()],
)
def test_empty_metrics_have_no_value_and_nothing_to_report(metric):
    assert isinstance(metric, base.BaseMetric)
    assert metric.Summary() == {}
    with pytest.raises(ValueError, match=f"{metric.name}' has no value: nothing was added"):
        metric.value  # noqa: B018


def test_merges_with_its_own_kind_only():
    with pytest.raises(TypeError, match="Mean 'loss' cannot take in a LogPerplexity"):
        Filled([]).Merge(mean.LogPerplexity())


def test_perplexity_is_that_of_all_tokens():
    # Two sentences: 3 tokens with mean log-probability -1, 1 token with -5.
    got = Filled([(1.0, 3), (5.0, 1)], mean.LogPerplexity, 'log_pplx')
    assert got.Summary() == {'log_pplx': 2.0, 'pplx': pytest.approx(math.exp(2.0))}
    assert set(Filled([(1.0, 1)], mean.LogPerplexity, 'dev').Summary()) == {'dev', 'dev/pplx'}


def test_perplexity_of_a_hopeless_model_is_still_a_number():
    got = Filled([(1e9, 1)], mean.LogPerplexity, 'log_pplx')
    assert math.isfinite(got.Summary()['pplx'])


def test_accuracy_counts_by_weight():
    got = accuracy.Accuracy()
    got.Update([[1, 2, 3], [4, 5, 0]], [[1, 2, 9], [9, 5, 0]], [[1, 1, 1], [1, 0.5, 0]])
    assert got.value == pytest.approx(2.5 / 4.5)
    other = accuracy.Accuracy()
    other.Update(['a', 'b'], ['a', 'c'])
    got.Merge(other)
    assert got.value == pytest.approx(3.5 / 6.5) and got.Summary() == {'accuracy': got.value}
    got.Update([1], [1], [0.0])
    assert got.weight == 6.5


def test_accuracy_takes_equal_shapes_and_sound_weights():
    with pytest.raises(ValueError, match=r'accuracy: predictions \[2\], labels \[2, 1\]'):
        accuracy.Accuracy().Update([1, 2], [[1], [2]])
    with pytest.raises(ValueError, match='weights must be finite and at least 0'):
        accuracy.Accuracy().Update([1, 2], [1, 2], [2.0, -1.0])
