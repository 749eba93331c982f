"""Inputs and calls that layers of several lists have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lingvo_lite.nested_map import NestedMap
from lingvo_lite.testing.layer_cases.case import DIM, Field

# Vectors; with paddings; with another sequence that they look at, and its paddings.
X = {'x': Field('vectors')}
PADDED = {**X, 'paddings': Field('paddings')}
LOOKING = {
    **X,
    'source': Field('vectors', 'source'),
    'source_paddings': Field('paddings', 'source'),
}
LOOKING_PADDED = {**PADDED, **LOOKING}


def Vectors(layer: Any, inputs: NestedMap) -> NestedMap:
    """Calls a layer that takes vectors and nothing else."""
    return NestedMap(by_time=layer(inputs.x))


def Padded(layer: Any, inputs: NestedMap) -> NestedMap:
    """Calls a layer that takes vectors and paddings, and leaves the time as it is."""
    return NestedMap(by_time=layer(inputs.x, inputs.paddings))


def Strided(layer: Any, inputs: NestedMap) -> NestedMap:
    """Calls a layer that takes vectors and paddings, and returns both."""
    y, paddings = layer(inputs.x, inputs.paddings)
    return NestedMap(by_time=y, paddings=paddings)


def Strided2D(layer: Any, inputs: NestedMap) -> NestedMap:
    """As `Strided`, for a layer over time and frequency."""
    y, paddings = layer(Images(inputs.x), inputs.paddings)
    return NestedMap(by_time=Flat(y), paddings=paddings)


def Images(x: tf.Tensor) -> tf.Tensor:
    """[..., dim] -> [..., frequency, channels]."""
    return tf.reshape(x, tf.concat([tf.shape(x)[:-1], [DIM // 2, 2]], axis=0))


def Flat(y: tf.Tensor) -> tf.Tensor:
    """[..., frequency, channels] -> [..., frequency * channels]."""
    return tf.reshape(y, tf.concat([tf.shape(y)[:-2], [y.shape[-2] * y.shape[-1]]], axis=0))


def StepByStep(
    x: tf.Tensor, state: Any, extend: Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]
) -> tf.Tensor:
    """What (x of one position [batch, ...], state) -> (y, next state) makes of [batch, time, ...].

    Returns:
      [batch, time, ...].
    """
    ys = []
    for t in range(x.shape[1]):
        y, state = extend(x[:, t], state)
        ys.append(y)
    return tf.stack(ys, axis=1)


def Steps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    """Position by position through a layer whose state asks for the number of rows only."""
    return StepByStep(inputs.x, layer.InitStates(tf.shape(inputs.x)[0]), layer.ExtendStep)
