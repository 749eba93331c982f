"""Convolutions, against NumPy. Padding, company and low precision: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers import conv

_RNG = np.random.default_rng(0)


def _Random(*shape):
    return _RNG.normal(size=shape).astype(np.float32)


def _At(x, i):
    """x[:, i], zeros outside."""
    return x[:, i] if 0 <= i < x.shape[1] else np.zeros_like(x[:, 0])


def _Oracle(x, w, stride, dilation, product):
    """The formula of the module's docstring, written out."""
    k = len(w)
    rows = []
    for i in range(-(-x.shape[1] // stride)):
        places = [i * stride + (j - (k - 1) // 2) * dilation for j in range(k)]
        rows.append(sum(product(_At(x, place), w[j]) for j, place in enumerate(places)))
    return np.stack(rows, axis=1)


@pytest.mark.parametrize('kernel', [1, 2, 3, 4, 7])
@pytest.mark.parametrize('stride, dilation', [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)])
@pytest.mark.parametrize('cls', [conv.Conv1D, conv.DepthwiseConv1D])
def test_over_time(inference_step, cls, kernel, stride, dilation):
    x = _Random(2, 7, 3)
    p = cls.Params().Set(input_dim=3, kernel_size=kernel, stride=stride, dilation=dilation)
    if cls is conv.Conv1D:
        p.output_dim = 5
    layer = p.Instantiate()
    layer.vars.b.assign(_Random(layer.output_dim))
    product = np.matmul if cls is conv.Conv1D else np.multiply
    wanted = _Oracle(x, layer.vars.w.numpy(), stride, dilation, product) + layer.vars.b.numpy()
    y, paddings = layer(tf.constant(x), tf.zeros([2, 7]))
    np.testing.assert_allclose(y, wanted, atol=1e-5)
    assert paddings.shape == y.shape[:2]


def test_separable_is_depthwise_then_linear(inference_step):
    x, zeros = tf.constant(_Random(2, 7, 3)), tf.zeros([2, 7])
    p = conv.SeparableConv1D.Params().Set(input_dim=3, output_dim=5, kernel_size=3, stride=2)
    layer = p.Instantiate()
    layer.vars.b.assign(_Random(5))
    y, paddings = layer(x, zeros)
    between, _ = layer.depthwise(x, zeros)
    np.testing.assert_allclose(y, between @ layer.vars.w[0] + layer.vars.b, atol=1e-5)
    assert paddings.shape == [2, 4] and layer.NumParameters() == 3 * 3 + 3 * 5 + 5


@pytest.mark.parametrize('shape', [(3, 3), (11, 4), (1, 2)])
@pytest.mark.parametrize('stride', [(1, 1), (2, 2), (1, 3)])
def test_over_time_and_frequency(inference_step, shape, stride):
    x = _Random(2, 5, 6, 2)
    layer = conv.Conv2D.Params().Set(filter_shape=(*shape, 2, 4), filter_stride=stride)
    layer = layer.Instantiate()
    w = layer.vars.w.numpy()

    def OverFrequency(frame, w):
        """[batch, frequency, channels]: the same formula along the other axis."""
        return _Oracle(frame, w, stride[1], 1, np.matmul)

    wanted = _Oracle(x, w, stride[0], 1, OverFrequency)
    y, paddings = layer(tf.constant(x), tf.zeros([2, 5]))
    np.testing.assert_allclose(y, wanted, atol=1e-4)
    assert paddings.shape == y.shape[:2]


def test_infinite_values_at_padding_do_not_leak(inference_step):
    x = _Random(1, 4, 3)
    x[:, 2:] = np.nan
    layer = conv.Conv1D.Params().Set(input_dim=3, output_dim=2, kernel_size=3).Instantiate()
    y, _ = layer(tf.constant(x), tf.constant([[0.0, 0, 1, 1]]))
    alone, _ = layer(tf.constant(x[:, :2]), tf.zeros([1, 2]))
    np.testing.assert_allclose(y[:, :2], alone, atol=1e-6)


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'stride': 2, 'dilation': 2}, 'stride=2 and dilation=2: one of them must be 1'),
        ({'kernel_size': 0}, 'kernel_size=0 must be at least 1'),
    ],
)
def test_settings_that_cannot_be(settings, message):
    p = conv.Conv1D.Params().Set(input_dim=3, output_dim=2, kernel_size=3)
    with pytest.raises(hyperparams.ConfigError, match=message):
        p.Set(**settings).Instantiate()


def test_a_filter_shape_has_four_numbers():
    p = conv.Conv2D.Params().Set(filter_shape=(3, 3, 32))
    with pytest.raises(hyperparams.ConfigError, match='must be 4 whole numbers'):
        p.Instantiate()
