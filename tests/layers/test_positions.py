"""Positions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers import positions


def _Table(times, dim):
    angles = np.array(times)[:, np.newaxis] / 10000 ** (2 * np.arange(dim // 2) / dim)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)


def test_sinusoids(inference_step):
    layer = positions.Sinusoid.Params().Set(model_dim=6).Instantiate()
    x = np.random.default_rng(0).normal(size=[2, 5, 6]).astype(np.float32)
    np.testing.assert_allclose(layer(tf.constant(x)), x + _Table(range(5), 6), atol=1e-6)
    found = layer(tf.constant(x), tf.constant(7))
    np.testing.assert_allclose(found, x + _Table(range(7, 12), 6), atol=1e-5)


def test_the_table_of_sinusoids_is_float32_whatever_the_type_of_x(inference_step):
    layer = positions.Sinusoid.Params().Set(model_dim=4, fprop_dtype=tf.bfloat16).Instantiate()
    found = layer(tf.zeros([1, 1, 4], tf.bfloat16), tf.constant(3001))
    # 3001 itself is no bfloat16: computed in that type, the angle would be 3008.
    wanted = tf.cast(_Table([3001], 4), tf.bfloat16)
    np.testing.assert_allclose(
        np.asarray(found[0], np.float32), np.asarray(wanted, np.float32), atol=0.01
    )


def test_sinusoids_need_an_even_size():
    with pytest.raises(hyperparams.ConfigError, match='model_dim=5 must be even'):
        positions.Sinusoid.Params().Set(model_dim=5).Instantiate()


def _Learned(**kwargs):
    p = positions.LearnedPositions.Params().Set(model_dim=3, max_positions=6)
    return p.Set(**kwargs).Instantiate()


def test_learned_positions(inference_step):
    layer = _Learned()
    x = np.ones([2, 4, 3], np.float32)
    table = layer.vars.table.numpy()
    np.testing.assert_allclose(layer(tf.constant(x)), x + table[:4])
    np.testing.assert_allclose(layer(tf.constant(x), tf.constant(2)), x + table[2:6])


@pytest.mark.parametrize('start, time', [(None, 7), (3, 4), (6, 1)])
def test_learned_positions_end(inference_step, start, time):
    with pytest.raises(tf.errors.InvalidArgumentError, match='longer than max_positions=6. Set'):
        _Learned()(tf.ones([1, time, 3]), start)


def test_rotation_is_that_of_complex_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=[2, 3, 5, 8]).astype(np.float32)
    found = positions.rotate(tf.constant(x), tf.constant(4)).numpy()
    angles = np.arange(4, 9)[:, np.newaxis] / 10000 ** (2 * np.arange(4) / 8)
    wanted = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angles)
    np.testing.assert_allclose(found[..., :4] + 1j * found[..., 4:], wanted, atol=1e-5)


def test_products_of_rotated_vectors_depend_on_distance_alone():
    rng = np.random.default_rng(0)
    q, k = (tf.constant(rng.normal(size=[1, 1, 1, 8]).astype(np.float32)) for _ in range(2))

    def Product(at_q, at_k):
        turned = positions.rotate(q, tf.constant(at_q)) * positions.rotate(k, tf.constant(at_k))
        return tf.reduce_sum(turned).numpy()

    assert Product(9, 4) == pytest.approx(Product(105, 100), abs=1e-4)
    assert Product(9, 4) != pytest.approx(Product(9, 5), abs=1e-2)
