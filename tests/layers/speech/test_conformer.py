"""Conformer block. Padding, company and low precision: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers import attention, base
from lingvo_lite.layers.speech import conformer

_SIZES = {'model_dim': 8, 'num_heads': 2, 'hidden_dim': 12}
_X = np.random.default_rng(0).normal(size=[2, 5, 8]).astype(np.float32)


def _Sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_convolution_module(inference_step):
    p = conformer.ConvolutionModule.Params().Set(model_dim=8, kernel_size=3)
    layer = p.Instantiate()
    rng = np.random.default_rng(1)
    for variable in layer.AllVariables().values():
        variable.assign(rng.uniform(0.5, 1.0, size=variable.shape))
    v = {path: x.numpy() for path, x in layer.AllVariables().items()}
    both = _X @ v['up/w'] + v['up/b']
    gated = np.pad(both[..., :8] * _Sigmoid(both[..., 8:]), [(0, 0), (1, 1), (0, 0)])
    y = sum(gated[:, j : j + 5] * v['depthwise/w'][j] for j in range(3))
    y = (y - v['batch_norm/moving_mean']) / np.sqrt(v['batch_norm/moving_variance'] + 1e-3)
    y = y * v['batch_norm/scale'] + v['batch_norm/bias']
    wanted = y * _Sigmoid(y) @ v['down/w'] + v['down/b']
    np.testing.assert_allclose(layer(tf.constant(_X), tf.zeros([2, 5])), wanted, atol=1e-4)


def test_block_is_equation_1(inference_step):
    layer = conformer.ConformerBlock.Params().Set(**_SIZES).Instantiate()
    paddings = tf.zeros([2, 5])
    x = tf.constant(_X)
    x += layer.feedforward_start(layer.feedforward_start_norm(x)) / 2
    x += layer.attention(layer.attention_norm(x), attention.padding_mask(paddings))
    x += layer.convolution(layer.convolution_norm(x), paddings)
    x += layer.feedforward_end(layer.feedforward_end_norm(x)) / 2
    wanted = layer.final_norm(x)
    np.testing.assert_allclose(layer(tf.constant(_X), paddings), wanted, atol=1e-5)


def test_defaults_are_those_of_the_paper():
    layer = conformer.ConformerBlock.Params().Set(**_SIZES).Instantiate()
    assert layer.attention.params.rotary
    assert layer.feedforward_start.params.activation == 'swish'
    assert layer.convolution.params.kernel_size == 31


@pytest.mark.parametrize(
    'key', ['residual_dropout_prob', 'atten_dropout_prob', 'relu_dropout_prob']
)
def test_each_dropout_rate_arrives(training_step, key):
    layer = conformer.ConformerBlock.Params().Set(**_SIZES, **{key: 0.5}).Instantiate()
    first, second = (layer(tf.constant(_X), tf.zeros([2, 5])) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_a_value_that_the_block_decides_is_an_error():
    p = conformer.ConformerBlock.Params().Set(**_SIZES, **{'attention.num_heads': 4})
    wanted = 'num_heads=4 has no effect: the ConformerBlock around it decides'
    with pytest.raises(hyperparams.ConfigError, match=wanted), base.ShapesOnly():
        p.Instantiate()


def test_parameters_of_the_large_block():
    """d = 512, 8 heads, hidden 2048, kernel 32 (table 1): counted by hand from section 2."""
    p = conformer.ConformerBlock.Params().Set(model_dim=512, num_heads=8, hidden_dim=2048)
    p.convolution.kernel_size = 32
    with base.ShapesOnly():
        count = p.Instantiate().NumParameters()
    d = 512
    feed = 2 * d * 2048 + 2048 + d
    convolution = (d * 2 * d + 2 * d) + 32 * d + 2 * d + (d * d + d)
    assert count == 2 * feed + 4 * (d * d + d) + convolution + 5 * 2 * d
