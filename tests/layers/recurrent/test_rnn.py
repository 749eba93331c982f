"""Recurrent networks against Keras, and what they do about padding, direction and state."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.layers.recurrent import cells, rnn
from lingvo_lite.nested_map import NestedMap

BATCH, TIME, INPUT, DIM = 3, 6, 4, 5
X = tf.constant(np.random.default_rng(0).normal(size=[BATCH, TIME, INPUT]).astype(np.float32))
LENGTHS = [6, 2, 0]
PADDINGS = 1.0 - tf.sequence_mask(LENGTHS, TIME, tf.float32)


def _Lstm(**kwargs):
    return cells.LSTMCell.Params().Set(input_dim=INPUT, cell_dim=DIM, **kwargs)


def _Rnn(cell=None, **kwargs):
    return rnn.RNN.Params().Set(cell=cell or _Lstm(), random_seed=3, **kwargs).Instantiate()


def _WithGradients(layer, call):
    variables = list(layer.TrainableVariables().values())
    with tf.GradientTape() as tape:
        tape.watch(X)
        y = call()
        loss = tf.reduce_sum(tf.sin(3 * y))
    return y, tape.gradient(loss, [X, *variables])


def _Lstm4(weight, order):
    """The four gates along the last axis, in another order."""
    return np.concatenate([np.split(np.array(weight), 4, axis=-1)[n] for n in order], axis=-1)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('backwards', [True, False])
def test_lstm_is_that_of_keras(backwards, training):
    """With its weights: outputs, last state and gradients, under padding too."""
    theirs = keras.layers.LSTM(DIM, return_sequences=True, go_backwards=backwards)
    theirs.build([BATCH, TIME, INPUT])
    ours = _Rnn(_Lstm(forget_gate_bias=0.0), reverse=backwards)
    keras_order, our_order = [0, 1, 3, 2], [0, 1, 3, 2]  # i f c o <-> i f o g
    for path, value in zip(('cell/w', 'cell/u', 'cell/b'), theirs.get_weights()):
        ours.AllVariables()[path].assign(_Lstm4(value, keras_order))

    def Theirs():
        y = theirs(X)
        return tf.reverse(y, axis=[1]) if backwards else y

    with tf.GradientTape() as tape:
        tape.watch(X)
        wanted = Theirs()
        loss = tf.reduce_sum(tf.sin(3 * wanted))
    own = [v.value for v in theirs.trainable_variables]
    d_x, d_w, d_u, d_b = tape.gradient(loss, [X, *own])
    with step.Context(training=training):
        y, found = _WithGradients(ours, lambda: ours(X, None))
    np.testing.assert_allclose(y, wanted, atol=1e-5)
    found = dict(zip(['x', *ours.TrainableVariables()], found))
    np.testing.assert_allclose(found['x'], d_x, atol=1e-4)
    for path, gradient in (('cell/w', d_w), ('cell/u', d_u), ('cell/b', d_b)):
        np.testing.assert_allclose(_Lstm4(found[path], our_order), gradient, atol=1e-4)


def test_gru_is_that_of_keras(training_step):
    theirs = keras.layers.GRU(DIM, return_sequences=True, reset_after=True)
    theirs.build([BATCH, TIME, INPUT])
    theirs.set_weights(
        [np.random.default_rng(1).normal(size=w.shape) for w in theirs.get_weights()]
    )
    w, u, (b, d) = theirs.get_weights()
    ours = _Rnn(cells.GRUCell.Params().Set(input_dim=INPUT, cell_dim=DIM))
    variables = ours.AllVariables()
    variables['cell/w'].assign(w)
    variables['cell/u'].assign(u)
    # Behind the product, theirs has a bias for each gate; only that of n is more than a sum.
    variables['cell/b'].assign(b + np.concatenate([d[: 2 * DIM], np.zeros(DIM)]))
    variables['cell/d'].assign(d[2 * DIM :])
    np.testing.assert_allclose(ours(X, None), theirs(X), atol=1e-5)


@pytest.mark.parametrize('reverse', [False, True])
def test_padding_is_nothing(training_step, reverse):
    """Outputs are those of each example alone, zeros behind it; so is the state, in the end."""
    layer = _Rnn(reverse=reverse)
    y, state = layer(X, PADDINGS, return_state=True)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(y[row, length:], 0)
        if length:
            alone, last = layer(X[row : row + 1, :length], None, return_state=True)
            np.testing.assert_allclose(y[row, :length], alone[0], atol=1e-6)
            for name in last:
                np.testing.assert_allclose(state[name][row], last[name][0], atol=1e-6)
    np.testing.assert_array_equal(state.m[2], 0)


def test_the_state_stays_inside_of_a_sequence_too(training_step):
    layer = _Rnn()
    kept = [0, 2, 5]
    paddings = np.ones([BATCH, TIME], np.float32)
    paddings[:, kept] = 0
    wanted = layer(tf.gather(X, kept, axis=1), None)
    found = layer(X, tf.constant(paddings))
    np.testing.assert_allclose(tf.gather(found, kept, axis=1), wanted, atol=1e-6)


@pytest.mark.parametrize('training', [True, False])
def test_a_sequence_can_be_cut(training):
    """The state behind one part is where the next begins; gradients go through it."""
    layer = _Rnn(_Lstm(projection_dim=3))
    with step.Context(training=training):

        def Cut():
            first, state = layer(X[:, :2], PADDINGS[:, :2], return_state=True)
            return tf.concat([first, layer(X[:, 2:], PADDINGS[:, 2:], state)], axis=1)

        wanted = _WithGradients(layer, lambda: layer(X, PADDINGS))
        found = _WithGradients(layer, Cut)
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(wanted)):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_bidirectional_one_is_both_side_by_side(inference_step):
    layer = rnn.BidirectionalRNN.Params().Set(cell=_Lstm()).Instantiate()
    assert layer.output_dim == 2 * DIM
    y = layer(X, PADDINGS)
    np.testing.assert_array_equal(y[:, :, :DIM], layer.forward(X, PADDINGS))
    np.testing.assert_array_equal(y[:, :, DIM:], layer.backward(X, PADDINGS))
    first = layer.backward(X[:1, ::-1], None)[:, ::-1]
    forward = _Rnn()
    for path, variable in forward.AllVariables().items():
        variable.assign(layer.backward.AllVariables()[f'backward/{path}'])
    np.testing.assert_allclose(forward(X[:1], None), first, atol=1e-6)


@pytest.mark.parametrize('cls', [rnn.StackedRNN, rnn.StackedBidirectionalRNN])
def test_a_stack_is_its_layers_over_each_other(inference_step, cls):
    cell = cells.LSTMCell.Params().Set(cell_dim=DIM, projection_dim=3)
    stack = cls.Params().Set(input_dim=INPUT, num_layers=3, cell=cell).Instantiate()
    y = X
    for layer in stack.layers:
        y = layer(y, PADDINGS)
    np.testing.assert_array_equal(stack(X, PADDINGS), y)
    assert stack.output_dim == y.shape[2] == (3 if cls is rnn.StackedRNN else 6)


def test_dropout_is_between_the_layers(training_step):
    def Stack(num_layers):
        p = rnn.StackedRNN.Params().Set(input_dim=INPUT, num_layers=num_layers, dropout_prob=0.5)
        return p.Set(**{'cell.cell_dim': DIM}).Instantiate()

    one, two = Stack(1), Stack(2)
    np.testing.assert_array_equal(one(X, None), one(X, None))
    assert np.abs(two(X, None) - two(X, None)).max() > 1e-3


def test_the_loop_has_one_product_forward_and_one_back():
    """That of the inputs, and that for the gradient of u, are made for all steps at once."""
    layer = _Rnn()

    @tf.function(autograph=False)
    def Run(x):
        with step.Context(training=True), tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, None))
        return tape.gradient(loss, list(layer.TrainableVariables().values()))

    graph = Run.get_concrete_function(tf.TensorSpec([None, None, INPUT])).graph
    loops = [op for op in graph.get_operations() if op.type in ('While', 'StatelessWhile')]
    products = [
        sum(
            op.type == 'MatMul'
            for op in graph._get_function(x.get_attr('body').name).graph.get_operations()
        )
        for x in loops
    ]
    assert products == [1, 1]


def test_states_are_float32_where_they_add_up():
    cell = _Rnn(_Lstm(), fprop_dtype=tf.bfloat16).cell
    state = cell.InitStates(2)
    assert state.Transform(lambda x: x.dtype) == NestedMap(c=tf.float32, m=tf.bfloat16)
