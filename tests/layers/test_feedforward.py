"""Linear and the feed-forward network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers import feedforward, linear

_X = np.random.default_rng(0).normal(size=[2, 5, 4]).astype(np.float32)
_ORACLES = {
    'relu': lambda x: np.maximum(x, 0),
    'gelu': np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))),
    'swish': lambda x: x / (1 + np.exp(-x)),
    'tanh': np.tanh,
}


def _Values(layer):
    rng = np.random.default_rng(1)
    for variable in layer.AllVariables().values():
        variable.assign(rng.normal(size=variable.shape))
    return {path: v.numpy() for path, v in layer.AllVariables().items()}


@pytest.mark.parametrize('use_bias', [True, False])
def test_linear(inference_step, use_bias):
    p = linear.Linear.Params().Set(input_dim=4, output_dim=3, use_bias=use_bias)
    layer = p.Instantiate()
    v = _Values(layer)
    assert set(v) == ({'w', 'b'} if use_bias else {'w'})
    y = layer(tf.constant(_X))
    assert y.shape == [2, 5, 3]
    np.testing.assert_allclose(y, _X @ v['w'] + v.get('b', 0), atol=1e-5)


@pytest.mark.parametrize('activation', sorted(feedforward.ACTIVATIONS))
def test_feedforward(inference_step, activation):
    p = feedforward.FeedForward.Params()
    p.Set(model_dim=4, hidden_dim=7, activation=activation, relu_dropout_prob=0.5)
    layer = p.Instantiate()
    v = _Values(layer)
    hidden = _ORACLES[activation](_X @ v['up/w'] + v['up/b'])
    wanted = hidden @ v['down/w'] + v['down/b']
    # tf.nn.gelu is the approximation by tanh here, which is within 0.001 of the oracle.
    atol = 0.01 if activation == 'gelu' else 1e-4
    np.testing.assert_allclose(layer(tf.constant(_X)), wanted, atol=atol)


def test_dropout_is_on_the_hidden_layer(training_step):
    p = feedforward.FeedForward.Params().Set(model_dim=1, hidden_dim=400, relu_dropout_prob=0.5)
    layer = p.Instantiate()
    layer.up.vars.w.assign(tf.ones([1, 400]))
    layer.down.vars.w.assign(tf.ones([400, 1]))
    y = layer(tf.ones([50, 1])).numpy()
    # Each is twice a binomial of 400 draws: neither 400 nor 0, as without dropout or on the output.
    assert np.all(np.abs(y - 400) < 120) and y.std() > 5


def test_an_activation_is_one_of_the_list():
    with pytest.raises(hyperparams.ConfigError, match="activation is one of 'gelu', 'relu'"):
        feedforward.FeedForward.Params().Set(activation='mish')
