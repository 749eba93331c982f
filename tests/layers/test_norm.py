"""Layer norm and RMS norm."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.layers import norm

_X = np.random.default_rng(0).normal(2.0, 3.0, size=[2, 3, 6]).astype(np.float32)


def _Layer(cls, **kwargs):
    layer = cls.Params().Set(model_dim=6, **kwargs).Instantiate()
    rng = np.random.default_rng(1)
    for variable in layer.AllVariables().values():
        variable.assign(rng.normal(size=[6]))
    return layer


def test_layer_norm(inference_step):
    layer = _Layer(norm.LayerNorm)
    scale, bias = layer.vars.scale.numpy(), layer.vars.bias.numpy()
    deviation = np.sqrt(_X.var(axis=-1, keepdims=True) + 1e-6)
    wanted = (_X - _X.mean(axis=-1, keepdims=True)) / deviation * scale + bias
    np.testing.assert_allclose(layer(tf.constant(_X)), wanted, atol=1e-5)


def test_rms_norm(inference_step):
    layer = _Layer(norm.RmsNorm)
    wanted = _X / np.sqrt((_X**2).mean(axis=-1, keepdims=True) + 1e-6) * layer.vars.scale.numpy()
    np.testing.assert_allclose(layer(tf.constant(_X)), wanted, atol=1e-5)


def test_they_start_as_plain_normalization(inference_step):
    layer = norm.LayerNorm.Params().Set(model_dim=6).Instantiate()
    y = layer(tf.constant(_X)).numpy()
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=-1), 1, atol=1e-4)


@pytest.mark.parametrize('cls', [norm.LayerNorm, norm.RmsNorm])
def test_statistics_are_float32(inference_step, cls):
    # In float16 the squares would be infinite.
    x = (_X * 3000).astype(np.float16)
    found = _Layer(cls, fprop_dtype=tf.float16)(tf.constant(x))
    assert found.dtype == tf.float16
    wanted = _Layer(cls)(tf.constant(x.astype(np.float32)))
    np.testing.assert_allclose(found.numpy().astype(np.float32), wanted, atol=0.01)


@pytest.mark.parametrize('cls', [norm.LayerNorm, norm.RmsNorm])
def test_they_are_not_regularized(cls):
    assert _Layer(cls).RegularizedPaths() == set()
