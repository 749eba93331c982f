"""Initial values: each distribution, and what they depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lingvo_lite import hyperparams
from lingvo_lite.layers import initializers
from lingvo_lite.layers.initializers import WeightInit

_SHAPE = [3, 40, 60]
# A kernel of width 3 from 40 to 60 channels.
_IN, _OUT = 120, 180

_UNIFORM = {
    'Uniform': (WeightInit.Uniform(0.3), 0.3),
    'Xavier': (WeightInit.Xavier(), math.sqrt(6 / (_IN + _OUT))),
    'Xavier-scaled': (WeightInit.Xavier(0.5), 0.5 * math.sqrt(6 / (_IN + _OUT))),
    'XavierWithFixupParams': (
        WeightInit.XavierWithFixupParams(depth=16, layers_per_residual_block=2),
        16 ** (-1 / 4) * math.sqrt(6 / (_IN + _OUT)),
    ),
    'GeoMeanXavier': (WeightInit.GeoMeanXavier(), math.sqrt(3 / math.sqrt(_IN * _OUT))),
    'UniformSqrtDim': (WeightInit.UniformSqrtDim(), 1 / math.sqrt(3)),
    'UniformUnitScaling': (WeightInit.UniformUnitScaling(2.0), 2 * math.sqrt(3 / 120)),
    'UniformUnitScalingFanAvg': (
        WeightInit.UniformUnitScalingFanAvg(2.0),
        math.sqrt(6 * 2 / (_IN + _OUT)),
    ),
    'KaimingUniformFanInRelu': (WeightInit.KaimingUniformFanInRelu(), math.sqrt(6 / _IN)),
    'KaimingUniformFanInLeakyRelu': (
        WeightInit.KaimingUniformFanInLeakyRelu(),
        math.sqrt(2 / 6) * math.sqrt(3 / _IN),
    ),
}
_NORMAL = {
    'Gaussian': (WeightInit.Gaussian(0.3), 0.3),
    'GaussianSqrtDim': (WeightInit.GaussianSqrtDim(), 1 / math.sqrt(3)),
    'GaussianSqrtFanIn': (WeightInit.GaussianSqrtFanIn(2.0), 2 / math.sqrt(_IN)),
    'GaussianSqrtFanOut': (WeightInit.GaussianSqrtFanOut(), 1 / math.sqrt(_OUT)),
    'GaussianSqrtFanAvg': (WeightInit.GaussianSqrtFanAvg(), math.sqrt(2 / (_IN + _OUT))),
}
_TRUNCATED = {
    'TruncatedGaussian': (WeightInit.TruncatedGaussian(0.3), 0.3),
    'TruncatedGaussianSqrtDim': (WeightInit.TruncatedGaussianSqrtDim(), 1 / math.sqrt(3)),
    'TruncatedGaussianSqrtFanIn': (WeightInit.TruncatedGaussianSqrtFanIn(), 1 / math.sqrt(_IN)),
    'TruncatedGaussianSqrtFanOut': (WeightInit.TruncatedGaussianSqrtFanOut(), 1 / math.sqrt(_OUT)),
}
_OTHERS = {'UniformPositive', 'Category', 'Constant', 'ScaledDeltaOrthogonal'}


def _Draw(init, shape=_SHAPE, path='a/w', seed=1):
    return initializers.InitialValue(init, shape, path, seed).numpy()


def test_every_kind_is_tested():
    kinds = {name for name in vars(WeightInit) if name[0].isupper()} - {'Params'}
    tested = {name.split('-')[0] for name in (*_UNIFORM, *_NORMAL, *_TRUNCATED)}
    assert kinds == tested | _OTHERS


@pytest.mark.parametrize('name', _UNIFORM)
def test_uniform(name):
    init, limit = _UNIFORM[name]
    value = _Draw(init)
    assert value.dtype == np.float32
    assert np.abs(value).max() <= limit
    # 7,200 draws: within 1% of the limit at both ends, and flat between.
    assert value.max() > 0.99 * limit and value.min() < -0.99 * limit
    assert value.std() == pytest.approx(limit / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize('name', _NORMAL)
def test_normal(name):
    init, deviation = _NORMAL[name]
    value = _Draw(init)
    assert value.std() == pytest.approx(deviation, rel=0.03)
    assert abs(value.mean()) < 0.05 * deviation
    assert np.mean(np.abs(value) > 2 * deviation) == pytest.approx(0.0455, abs=0.01)


@pytest.mark.parametrize('name', _TRUNCATED)
def test_truncated_normal(name):
    init, deviation = _TRUNCATED[name]
    value = _Draw(init)
    assert 1.9 * deviation < np.abs(value).max() <= 2 * deviation
    assert value.std() == pytest.approx(0.8796 * deviation, rel=0.03)


def test_uniform_positive():
    value = _Draw(WeightInit.UniformPositive(0.3))
    assert 0 <= value.min() < 0.01 and 0.29 < value.max() <= 0.3


def test_category():
    assert set(np.unique(_Draw(WeightInit.Category(4)))) == {0.0, 1.0, 2.0, 3.0}


def test_constant():
    assert np.all(_Draw(WeightInit.Constant(0.3)) == np.float32(0.3))


@pytest.mark.parametrize(
    'shape, center', [([8, 12], ()), ([5, 8, 12], (2,)), ([3, 4, 8, 8], (1, 2))]
)
def test_scaled_delta_orthogonal(shape, center):
    value = _Draw(WeightInit.ScaledDeltaOrthogonal(2.0), shape)
    matrix = value[center]
    np.testing.assert_allclose(matrix @ matrix.T, 4 * np.eye(8), atol=1e-5)
    assert np.count_nonzero(value) == np.count_nonzero(matrix)


def test_scaled_delta_orthogonal_needs_in_at_most_out():
    with pytest.raises(hyperparams.ConfigError, match=r'in <= out, got \[3, 12, 8\]'):
        _Draw(WeightInit.ScaledDeltaOrthogonal(), [3, 12, 8])


@pytest.mark.parametrize(
    'shape, fans',
    [
        ([], (1, 1)),
        ([5], (5, 1)),
        ([5, 7], (5, 7)),
        ([3, 5, 7], (15, 21)),
        ([2, 3, 5, 7], (30, 42)),
    ],
)
def test_fans(shape, fans):
    assert initializers.Fans(shape) == fans


@pytest.mark.parametrize('init', [WeightInit.Xavier(), WeightInit.Gaussian()], ids=str)
def test_values_depend_on_path_and_seed_alone(init):
    first = _Draw(init)
    np.testing.assert_array_equal(_Draw(init), first)
    for other in (_Draw(init, path='a/v'), _Draw(init, seed=2)):
        assert abs(np.corrcoef(other.ravel(), first.ravel())[0, 1]) < 0.05


def test_params_are_plain_text():
    init = WeightInit.GaussianSqrtDim(0.5)
    assert init.ToText() == "method : 'gaussian_sqrt_dim'\nscale : 0.5\n"
    with pytest.raises(hyperparams.ConfigError, match='method is one of'):
        init.method = 'gauss'
