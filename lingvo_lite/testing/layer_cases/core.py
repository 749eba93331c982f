"""Layers that look at one position at a time."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lingvo_lite.layers import dropout, embedding, feedforward, linear, norm, positions, softmax
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.testing.layer_cases.calls import Vectors, X
from lingvo_lite.testing.layer_cases.case import DIM, VOCAB, Case, Field


def _PositionSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    times = range(inputs.x.shape[1])
    return tf.concat([layer(inputs.x[:, t : t + 1], tf.constant(t)) for t in times], axis=1)


def _Loss(layer: Any, inputs: NestedMap) -> NestedMap:
    out = layer(inputs.x, inputs.ids, inputs.weights)
    # [batch, time, padded vocabulary]
    logits = layer.Logits(tf.reshape(inputs.x, [-1, DIM]))[:, :VOCAB]
    logits = tf.reshape(logits, tf.concat([tf.shape(inputs.ids), [VOCAB]], axis=0))
    return NestedMap(by_time=logits, by_example=out.per_example_loss)


_FEED = feedforward.FeedForward.Params().Set(model_dim=DIM, hidden_dim=12)

CASES = [
    Case('Linear', linear.Linear.Params().Set(input_dim=DIM, output_dim=5), X, Vectors),
    Case(
        'Embedding',
        embedding.Embedding.Params().Set(vocab_size=VOCAB, model_dim=DIM, scale_sqrt_depth=True),
        {'ids': Field('ids')},
        lambda layer, inputs: NestedMap(by_time=layer(inputs.ids)),
    ),
    Case(
        'Sinusoid',
        positions.Sinusoid.Params().Set(model_dim=DIM),
        X,
        Vectors,
        _PositionSteps,
    ),
    Case(
        'LearnedPositions',
        positions.LearnedPositions.Params().Set(model_dim=DIM, max_positions=16),
        X,
        Vectors,
        _PositionSteps,
    ),
    Case('LayerNorm', norm.LayerNorm.Params().Set(model_dim=DIM), X, Vectors),
    Case('RmsNorm', norm.RmsNorm.Params().Set(model_dim=DIM), X, Vectors),
    Case('Dropout', dropout.Dropout.Params().Set(rate=0.25), X, Vectors),
    *(
        Case(f'FeedForward-{name}', _FEED.Copy().Set(activation=name), X, Vectors)
        for name in feedforward.ACTIVATIONS
    ),
    Case(
        'SoftmaxLoss',
        softmax.SoftmaxLoss.Params().Set(vocab_size=VOCAB, model_dim=DIM, label_smoothing=0.1),
        {**X, 'ids': Field('ids'), 'weights': Field('weights')},
        _Loss,
    ),
]
