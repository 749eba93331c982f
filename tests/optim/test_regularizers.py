"""Penalties against NumPy, and their gradients against those of their losses."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.optim import regularizers


@pytest.fixture(scope='module')
def variables():
    rng = np.random.default_rng(1)
    return {
        'encoder/w': tf.Variable(rng.normal(size=[3, 2]).astype(np.float32)),
        'encoder/b': tf.Variable([0.5, 0.0]),
        'decoder/w': tf.Variable(rng.normal(size=[2]).astype(np.float32)),
    }


def _HalfSquares(w):
    return np.sum(np.square(w)) / 2


def _Magnitudes(w):
    return np.sum(np.abs(w))


@pytest.mark.parametrize(
    'cls, penalty', [(regularizers.L2, _HalfSquares), (regularizers.L1, _Magnitudes)]
)
def test_loss_is_summed_over_variables(variables, cls, penalty):
    wanted = 0.3 * sum(penalty(variable.numpy()) for variable in variables.values())
    np.testing.assert_allclose(cls(0.3).Loss(variables), wanted, rtol=1e-6)
    assert cls(0.3).Loss({}) == 0.0


@pytest.mark.parametrize('cls', [regularizers.L2, regularizers.L1])
def test_gradients_are_those_of_the_loss(variables, cls):
    with tf.GradientTape() as tape:
        loss = cls(0.3).Loss(variables)
    wanted = tape.gradient(loss, variables)
    own = {path: tf.ones_like(variable) for path, variable in variables.items()}
    summed = cls(0.3).AddGradients(own, variables)
    for path in variables:
        np.testing.assert_allclose(summed[path], 1.0 + wanted[path], rtol=1e-6)


def test_only_the_variables_that_are_given_are_penalised(variables):
    own = {path: tf.zeros_like(variable) for path, variable in variables.items()}
    given = {'encoder/w': variables['encoder/w']}
    summed = regularizers.L2(1.0).AddGradients(own, given)
    np.testing.assert_array_equal(summed['encoder/w'], variables['encoder/w'])
    np.testing.assert_array_equal(summed['encoder/b'], [0.0, 0.0])


def test_a_variable_without_a_gradient_gets_that_of_the_penalty(variables):
    summed = regularizers.L2(2.0).AddGradients({'encoder/b': None}, variables)
    np.testing.assert_array_equal(summed['encoder/b'], [1.0, 0.0])


def test_small_weights_are_not_lost():
    # In float16 the product is 0.
    w = tf.Variable([1e-4])
    np.testing.assert_allclose(regularizers.L2(1e-4).Gradient(w), [1e-8], rtol=1e-6)


@pytest.mark.parametrize('weight', [-1.0, float('nan')])
def test_a_negative_weight_is_refused(weight):
    with pytest.raises(ValueError, match='weight of L2 must be at least 0'):
        regularizers.L2(weight)
