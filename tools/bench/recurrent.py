"""f: our LSTM layers over those of Keras, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lingvo_lite import step as step_context
from lingvo_lite.layers.recurrent import cells, rnn

from . import results, step, turns

# (batch, time, input_dim, cell_dim)
FULL = ((16, 200, 320, 256), (32, 40, 96, 96))
QUICK = ((2, 5, 6, 4),)

Pass = Callable[[], list[np.ndarray]]


def make_ours(input_dim: int, cell_dim: int, both: bool = False) -> Any:
    """An RNN of LSTM cells; with `both`, one that runs in both directions."""
    cell = cells.LSTMCell.Params().Set(input_dim=input_dim, cell_dim=cell_dim)
    layer = rnn.BidirectionalRNN if both else rnn.RNN
    return layer.Params().Set(name='lstm', cell=cell).Instantiate()


def make_keras(ours: Any, both: bool = False) -> keras.layers.Layer:
    """The same of Keras, with our weights."""
    own = [ours.forward.cell, ours.backward.cell] if both else [ours.cell]
    dim = own[0].params.cell_dim
    layer = keras.layers.LSTM(dim, return_sequences=True)
    if both:
        layer = keras.layers.Bidirectional(layer)
    layer.build((None, None, own[0].params.input_dim))
    weights = []
    for cell in own:
        bias = cell.vars.b.numpy()
        bias[dim : 2 * dim] += cell.params.forget_gate_bias
        weights += [_keras_order(x, dim) for x in (cell.vars.w.numpy(), cell.vars.u.numpy(), bias)]
    layer.set_weights(weights)
    return layer


def _keras_order(x: np.ndarray, dim: int) -> np.ndarray:
    """x: [..., 4 * dim], our gates i, f, o, g -> those of Keras: i, f, g, o."""
    i, f, o, g = (x[..., k * dim : (k + 1) * dim] for k in range(4))
    return np.concatenate([i, f, g, o], axis=-1)


def our_pass(layer: Any, x: np.ndarray, upstream: np.ndarray) -> Pass:
    """The outputs and the gradients of the input and of all weights, in a training step."""

    def run(x: tf.Tensor) -> tf.Tensor:
        with step_context.Context(training=True):
            return layer(x, None)

    return _pass(run, list(layer.AllVariables().values()), x, upstream)


def keras_pass(layer: keras.layers.Layer, x: np.ndarray, upstream: np.ndarray) -> Pass:
    """The same with a layer of Keras."""
    variables = [variable.value for variable in layer.trainable_variables]
    return _pass(lambda x: layer(x, training=True), variables, x, upstream)


def _pass(run: Any, variables: list[tf.Variable], x: np.ndarray, upstream: np.ndarray) -> Pass:
    spec = tf.TensorSpec([None, None, x.shape[-1]])
    wanted = tf.TensorSpec([None, None, upstream.shape[-1]])

    @tf.function(autograph=False, input_signature=[spec, wanted])
    def both_ways(x: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
        return [y, *tape.gradient(y, [x, *variables], output_gradients=upstream)]

    function = both_ways.get_concrete_function()
    arguments = tf.constant(x), tf.constant(upstream)
    return lambda: [z.numpy() for z in function(*arguments)]


def random_pass(
    batch: int, time: int, input_dim: int, cell_dim: int, both: bool = False
) -> tuple[Pass, Pass]:
    """Ours and that of Keras, of the same weights, input and gradient of the output."""
    rng = np.random.RandomState(0)
    x = rng.normal(size=[batch, time, input_dim]).astype(np.float32)
    outputs = 2 * cell_dim if both else cell_dim
    upstream = rng.normal(size=[batch, time, outputs]).astype(np.float32)
    ours = make_ours(input_dim, cell_dim, both)
    return our_pass(ours, x, upstream), keras_pass(make_keras(ours, both), x, upstream)


def lstm_over_keras(quick: bool) -> Iterator[results.Result]:
    """Our LSTM over keras.layers.LSTM of the same weights, forward and backward, and both ways."""
    rounds = 3 if quick else 20
    for sizes in QUICK if quick else FULL:
        batch, time, input_dim, cell_dim = sizes
        for both in (False, True):
            ours, theirs = random_pass(*sizes, both)
            for own, other in zip(ours()[:2], theirs()[:2]):  # the output and the gradient of x
                np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-3)
            theirs = step.with_default_optimizer(theirs)
            seconds = turns.in_turn({'ours': ours, 'keras': theirs}, rounds)
            milliseconds = 1000 * np.median(seconds['ours'])
            yield results.from_pairs(
                f'f {batch} x {time} x {input_dim} -> {cell_dim}{" both ways" if both else ""}',
                seconds['ours'],
                seconds['keras'],
                at_most=1,
                note=f'our LSTM / that of Keras; ours {milliseconds:.1f} ms',
            )
