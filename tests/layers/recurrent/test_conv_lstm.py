"""ConvLSTM against tf.nn.conv1d. Padding, precision and steps: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers.recurrent import conv_lstm, rnn

BATCH, TIME, FREQUENCY, INPUT, DIM = 2, 4, 6, 3, 2
_RNG = np.random.default_rng(0)
X = tf.constant(_RNG.normal(size=[BATCH, TIME, FREQUENCY, INPUT]).astype(np.float32))


def _Layer(**kwargs):
    p = conv_lstm.ConvLSTM.Params().Set(input_dim=INPUT, cell_dim=DIM, **kwargs)
    return p.Instantiate()


@pytest.mark.parametrize('kernel_size', [1, 3, 5])
def test_it_is_an_lstm_of_convolutions(inference_step, kernel_size):
    layer = _Layer(kernel_size=kernel_size, forget_gate_bias=0.5)
    layer.vars.b.assign(_RNG.normal(size=[4 * DIM]))
    forget = np.repeat([0.0, 0.5, 0.0, 0.0], DIM)
    c = m = tf.zeros([BATCH, FREQUENCY, DIM])
    y = layer(X, None)
    for t in range(TIME):
        z = tf.nn.conv1d(X[:, t], layer.vars.w, 1, 'SAME')
        z += tf.nn.conv1d(m, layer.vars.u, 1, 'SAME') + layer.vars.b + forget
        i, f, o, g = tf.split(z, 4, axis=2)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        m = tf.sigmoid(o) * tf.tanh(c)
        np.testing.assert_allclose(y[:, t], m, atol=1e-5)


def test_with_one_frequency_it_is_an_lstm(training_step):
    layer = _Layer(kernel_size=1)
    p = rnn.RNN.Params()
    p.cell.Set(input_dim=INPUT, cell_dim=DIM)
    plain = p.Instantiate()
    for name in ('w', 'u', 'b'):
        plain.AllVariables()[f'cell/{name}'].assign(tf.squeeze(layer.AllVariables()[name]))
    paddings = tf.constant([[0.0, 0, 0, 0], [0, 0, 1, 1]])
    y = layer(X[:, :, :1], paddings)
    np.testing.assert_allclose(y[:, :, 0], plain(X[:, :, 0], paddings), atol=1e-6)


def test_reverse_runs_from_the_end(inference_step):
    forward, backward = _Layer(), _Layer(reverse=True)
    np.testing.assert_allclose(backward(X, None), forward(X[:, ::-1], None)[:, ::-1], atol=1e-6)


def test_a_kernel_has_a_middle():
    with pytest.raises(hyperparams.ConfigError, match='kernel_size=4 must be odd'):
        _Layer(kernel_size=4)
