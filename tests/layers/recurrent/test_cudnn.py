"""cuDNN's LSTM and GRU: weights and sequences, against the documented equations in NumPy.

NVIDIA, cuDNN API, cudnnRNNMode_t. The kernel itself needs a GPU.
"""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.layers.recurrent import cells, cudnn, rnn

BATCH, TIME, INPUT, DIM = 4, 6, 3, 5
X = tf.constant(np.random.default_rng(0).normal(size=[BATCH, TIME, INPUT]).astype(np.float32))
PADDINGS = 1.0 - tf.sequence_mask([6, 2, 0, 5], TIME, tf.float32)


def _Sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _Kernel(input, input_h, input_c, params, sequence_lengths, rnn_mode):
    """What cuDNN documents: W and R of each gate, then both biases of each gate."""
    x, h, c, flat = (np.array(a) for a in (input, input_h[0], input_c, params))
    c = c[0] if rnn_mode == 'lstm' else c
    lengths = np.array(sequence_lengths)
    assert lengths.min() >= 1  # cuDNN refuses less
    gates = 4 if rnn_mode == 'lstm' else 3
    dim, at = h.shape[1], 0

    def Take(*shape):
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return flat[at - size : at].reshape(shape)

    w = [Take(dim, x.shape[2]) for _ in range(gates)]
    r = [Take(dim, dim) for _ in range(gates)]
    bw, br = [Take(dim) for _ in range(gates)], [Take(dim) for _ in range(gates)]
    assert at == len(flat)
    ys = np.zeros([*x.shape[:2], dim], np.float32)
    for t in range(len(x)):
        a = [x[t] @ w[n].T + bw[n] for n in range(gates)]
        b = [h @ r[n].T + br[n] for n in range(gates)]
        if rnn_mode == 'lstm':
            i, f, o = (_Sigmoid(a[n] + b[n]) for n in (0, 1, 3))
            new_c = f * c + i * np.tanh(a[2] + b[2])
            new_h = o * np.tanh(new_c)
        else:
            reset, update = (_Sigmoid(a[n] + b[n]) for n in (0, 1))
            new_h = (1 - update) * np.tanh(a[2] + reset * b[2]) + update * h
            new_c = c
        on = (t < lengths)[:, np.newaxis]
        h = np.where(on, new_h, h)
        c = np.where(on, new_c, c) if rnn_mode == 'lstm' else c
        ys[t] = np.where(on, new_h, 0)
    last_c = c[np.newaxis].astype(np.float32) if rnn_mode == 'lstm' else np.float32(0)
    return ys, h[np.newaxis].astype(np.float32), last_c, None, None


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(cudnn, 'available', lambda dtype: True)
    raw = types.SimpleNamespace(CudnnRNNV3=lambda **given: _Outputs(_Kernel(**given)))
    monkeypatch.setattr(cudnn, 'tf', _Tf(raw))


class _Tf:
    """TensorFlow with the kernel of this file."""

    def __init__(self, raw):
        self.raw_ops = raw

    def __getattr__(self, name):
        return getattr(tf, name)


def _Outputs(values):
    return [None if value is None else tf.constant(value) for value in values]


def _Layer(cell, reverse):
    cell = cell.Params().Set(input_dim=INPUT, cell_dim=DIM)
    layer = rnn.RNN.Params().Set(cell=cell, reverse=reverse, random_seed=3).Instantiate()
    for variable in layer.AllVariables().values():  # biases too
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    return layer


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('cell', [cells.LSTMCell, cells.GRUCell])
def test_the_kernel_gets_the_same_network(inference_step, monkeypatch, kernel, cell, reverse):
    layer = _Layer(cell, reverse)
    state = layer.InitStates(BATCH).Transform(lambda value: value + 0.3)
    for paddings in (PADDINGS, None):
        got, last = layer(X, paddings, state, return_state=True)
        with monkeypatch.context() as without:
            without.setattr(cudnn, 'available', lambda dtype: False)
            wanted, wanted_last = layer(X, paddings, state, return_state=True)
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        for name in wanted_last:
            np.testing.assert_allclose(last[name], wanted_last[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize('cell', [cells.LSTMCell, cells.GRUCell])
def test_the_graph_has_the_kernel_and_its_gradient(training_step, monkeypatch, cell):
    monkeypatch.setattr(cudnn, 'available', lambda dtype: True)
    layer = _Layer(cell, reverse=False)

    @tf.function(autograph=False)
    def Gradients():
        loss = tf.reduce_sum(layer(X, PADDINGS))
        return tf.gradients(loss, [v.handle for v in layer.TrainableVariables().values()])

    graph = Gradients.get_concrete_function().graph
    ops = [op.type for op in graph.get_operations()]
    assert ops.count('CudnnRNNV3') == 1 and ops.count('CudnnRNNBackpropV3') == 1
    assert not any('While' in op for op in ops)


@pytest.mark.parametrize(
    'values', [{'layer_norm': True}, {'projection_dim': 2}, {'zoneout_prob': 0.1}]
)
def test_what_the_kernel_lacks_is_computed_by_our_loop(inference_step, kernel, values):
    cell = cells.LSTMCell.Params().Set(input_dim=INPUT, cell_dim=DIM, **values)
    assert cell.Set(name='cell').Instantiate().cudnn_mode is None


def test_there_is_no_kernel_without_a_gpu():
    assert not cudnn.available(tf.float32)
