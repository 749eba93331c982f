"""Cells against NumPy. Padding, precision and company: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers.recurrent import cells
from lingvo_lite.nested_map import NestedMap

BATCH, INPUT, DIM = 3, 4, 5
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=[BATCH, INPUT]).astype(np.float32)


def _Sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _Normalized(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)


def _Built(cls, **kwargs):
    """A cell with random values everywhere, these values, and a random state."""
    cell = cls.Params().Set(input_dim=INPUT, cell_dim=DIM, **kwargs).Instantiate()
    rng = np.random.default_rng(1)
    values = NestedMap()
    for path, variable in cell.AllVariables().items():
        variable.assign(rng.normal(size=variable.shape))
        values[path] = variable.numpy()
    state = cell.InitStates(BATCH).Transform(
        lambda zeros: tf.constant(rng.normal(size=zeros.shape).astype(np.float32))
    )
    return cell, values, state


@pytest.mark.parametrize('projection_dim', [0, 2])
@pytest.mark.parametrize('layer_norm', [False, True])
def test_lstm(inference_step, projection_dim, layer_norm):
    cell, v, state = _Built(
        cells.LSTMCell,
        projection_dim=projection_dim,
        layer_norm=layer_norm,
        forget_gate_bias=0.5,
    )
    bias = v.b + np.repeat([0.0, 0.5, 0.0, 0.0], DIM)
    z = (X @ v.w + state.m.numpy() @ v.u).reshape([BATCH, 4, DIM])
    if layer_norm:
        z = _Normalized(z) * v.gate_scale.reshape([4, DIM])
    z = z + bias.reshape([4, DIM])
    i, f, o, g = np.moveaxis(z, 1, 0)
    c = _Sigmoid(f) * state.c.numpy() + _Sigmoid(i) * np.tanh(g)
    inner = _Normalized(c) * v.cell_scale + v.cell_bias if layer_norm else c
    m = _Sigmoid(o) * np.tanh(inner)
    if projection_dim:
        m = m @ v.projection
    y, after = cell(tf.constant(X), state)
    np.testing.assert_allclose(y, m, atol=1e-5)
    np.testing.assert_allclose(after.m, m, atol=1e-5)
    np.testing.assert_allclose(after.c, c, atol=1e-5)
    assert y.shape[1] == cell.output_dim == (projection_dim or DIM)


def test_gru(inference_step):
    cell, v, state = _Built(cells.GRUCell)
    h = state.h.numpy()
    x_z, x_r, x_n = np.split(X @ v.w + v.b, 3, axis=1)
    h_z, h_r, h_n = np.split(h @ v.u, 3, axis=1)
    z, r = _Sigmoid(x_z + h_z), _Sigmoid(x_r + h_r)
    wanted = z * h + (1 - z) * np.tanh(x_n + r * (h_n + v.d))
    y, after = cell(tf.constant(X), state)
    np.testing.assert_allclose(y, wanted, atol=1e-5)
    np.testing.assert_allclose(after.h, wanted, atol=1e-5)


def test_the_gradient_of_the_lstm_is_that_of_its_equations():
    x, r = (tf.constant(_RNG.normal(size=[BATCH, 4 * DIM]).astype(np.float32)) for _ in range(2))
    c = tf.constant(_RNG.normal(size=[BATCH, DIM]).astype(np.float32))

    def Plain(x, r, c):
        i, f, o, g = tf.split(x + r, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    results = []
    for fn in (Plain, cells.lstm):
        with tf.GradientTape() as tape:
            tape.watch([x, r, c])
            m, after = fn(x, r, c)
            loss = tf.reduce_sum(tf.sin(m)) + tf.reduce_sum(tf.cos(2 * after))
        results.append(tape.gradient(loss, [x, r, c]))
    for wanted, found in zip(*results):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_first_entries_of_an_input_can_be_projected_alone(inference_step):
    cell, v, _ = _Built(cells.LSTMCell)
    whole = cell.Project(tf.constant(X))
    parts = cell.Project(tf.constant(X[:, :1])) + X[:, 1:] @ cell.InputMatrix(1, INPUT)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


class TestZoneout:
    @pytest.mark.parametrize('cls', [cells.LSTMCell, cells.GRUCell])
    def test_not_training_it_is_the_mean(self, inference_step, cls):
        cell, v, state = _Built(cls, zoneout_prob=0.25)
        plain, _, _ = _Built(cls)
        _, new = plain(tf.constant(X), state)
        y, after = cell(tf.constant(X), state)
        for name in state:
            np.testing.assert_allclose(
                after[name], 0.25 * state[name] + 0.75 * new[name], atol=1e-5
            )
        np.testing.assert_allclose(y, after['m' if 'm' in after else 'h'], atol=1e-6)

    def test_training_an_entry_is_old_or_new(self):
        dim = 2000
        p = cells.LSTMCell.Params().Set(input_dim=1, cell_dim=dim, zoneout_prob=0.25)
        cell = p.Instantiate()
        old = NestedMap(c=tf.fill([1, dim], 7.0), m=tf.fill([1, dim], 9.0))
        with step.Context(training=True, seed=1):
            _, after = cell(tf.ones([1, 1]), old)
            _, again = cell(tf.ones([1, 1]), old)
        stays = {name: after[name].numpy() == old[name].numpy() for name in old}
        for share in stays.values():
            assert share.mean() == pytest.approx(0.25, abs=0.05)
        assert (stays['c'] & stays['m']).mean() == pytest.approx(1 / 16, abs=0.03)
        assert np.any(again.c != after.c), 'each call has draws of its own'


def test_a_rate_is_a_probability():
    p = cells.GRUCell.Params().Set(input_dim=1, cell_dim=1, zoneout_prob=1.0)
    with pytest.raises(hyperparams.ConfigError, match='zoneout_prob=1.0 must be .* below 1'):
        p.Instantiate()
