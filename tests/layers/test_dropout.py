"""Dropout."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers import dropout


def _Layer(rate, **kwargs):
    return dropout.Dropout.Params().Set(rate=rate, **kwargs).Instantiate()


@pytest.mark.parametrize('rate', [0.1, 0.5, 0.9])
def test_entries_are_zero_or_scaled(training_step, rate):
    y = _Layer(rate)(tf.ones([100, 1001])).numpy()
    rounded = round(rate * 256) / 256
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / (1 - rounded), rtol=1e-6)
    # 100,100 draws: a deviation of five standard deviations.
    assert abs(kept.mean() - (1 - rounded)) < 5 * np.sqrt(rounded * (1 - rounded) / y.size)


def test_the_mean_is_kept(training_step):
    assert abs(_Layer(0.3)(tf.ones([1000, 100])).numpy().mean() - 1) < 0.01


@pytest.mark.parametrize('rate', [0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_the_mean_is_kept_in_low_precision(training_step, rate, dtype):
    """To 0.05%: a scale that is rounded to bfloat16 is off by up to 0.33%."""
    x = tf.cast(tf.random.stateless_uniform([100_000], [1, 2], 0.5, 1.5), dtype)
    y = tf.cast(_Layer(rate)(x), tf.float32)
    kept = y != 0
    scale = tf.reduce_mean(y[kept] / tf.cast(x, tf.float32)[kept]).numpy()
    assert abs(scale * (1 - round(rate * 256) / 256) - 1) < 5e-4


def test_neighbours_are_independent(training_step):
    kept = (_Layer(0.5)(tf.ones([400, 256])).numpy() != 0) * 2.0 - 1.0
    for lag in (1, 2, 3, 4, 8):
        correlation = (kept[:, lag:] * kept[:, :-lag]).mean()
        assert abs(correlation) < 0.02, lag


@pytest.mark.parametrize('shape', [[], [1], [3], [4], [5], [2, 0, 3], [2, 3, 5]])
def test_any_shape(training_step, shape):
    assert _Layer(0.5)(tf.ones(shape)).shape == shape


def test_the_gradient_has_the_mask_of_the_forward_pass(training_step):
    x = tf.ones([50])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = _Layer(0.5)(x)
    np.testing.assert_array_equal(tape.gradient(y, x), y)


def test_identity_without_any_op_when_not_training(inference_step):
    x = tf.ones([3])
    assert _Layer(0.5)(x) is x


def test_identity_without_any_op_at_rate_0(training_step):
    x = tf.ones([3])
    assert _Layer(0.0)(x) is x


def test_draws_differ_by_call_and_repeat_by_step():
    layer = _Layer(0.5)

    def Draw(at_step):
        with step.Context(training=True, step=at_step):
            return [tuple(layer(tf.ones([40])).numpy()) for _ in range(2)]

    assert Draw(1) == Draw(1)
    assert len({*Draw(1), *Draw(2)}) == 4


@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_type_is_kept(training_step, dtype):
    y = _Layer(0.5)(tf.ones([64], dtype))
    assert y.dtype == dtype
    assert set(np.asarray(y, np.float32)) == {0.0, 2.0}


@pytest.mark.parametrize('rate', [-0.1, 1.0, 1.5, 0.0001, 0.9999])
def test_rates_that_cannot_be(rate):
    with pytest.raises(hyperparams.ConfigError, match=f'rate={rate} (must be|is 0 or 1)'):
        _Layer(rate)
