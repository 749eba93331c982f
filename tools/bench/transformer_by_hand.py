"""A pre-norm Transformer in plain TensorFlow: what the layers of the house are measured against.

The mathematics of `tasks.mt.model.TransformerModel` as configured by `tasks.mt.params.wmt`, without
any layer of ours, and written for speed: activations are rows [batch * time, dim] throughout,
every variable is read and cast once a step, queries, keys and values come from one product, source
and target are looked up at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Callable, Optional

import numpy as np
import tensorflow as tf

Weights = dict[str, tf.Tensor]
Drop = Callable[[tf.Tensor], tf.Tensor]

_EPSILON = 1e-6
_MASKED = -1e9
_MAX_TIME = 512
_TABLE = 'embedding/table'


class Transformer:
    """The weights and the forward pass.

    Args:
      values: {path in TransformerModel: initial value}.
      num_layers: of encoder and of decoder.
      num_heads: of each attention.
      dtype: of products and activations.
    """

    def __init__(
        self, values: Mapping[str, np.ndarray], num_layers: int, num_heads: int, dtype: tf.DType
    ):
        self.variables = {name: tf.Variable(value) for name, value in sorted(values.items())}
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.dtype = dtype
        self.dim = values[_TABLE].shape[1]
        self._positions = _sinusoids(_MAX_TIME, self.dim)

    def weights(self) -> Weights:
        """All variables, read and, but for embedding and norms, cast."""
        read = {name: tf.convert_to_tensor(v) for name, v in self.variables.items()}
        weights = {
            name: tf.cast(x, self.dtype) if name.endswith(('/w', '/b')) else x
            for name, x in read.items()
        }
        weights['softmax'] = tf.cast(read[_TABLE], self.dtype)
        return weights

    def embed(self, weights: Weights, ids: tf.Tensor) -> tf.Tensor:
        """ids: [n] -> [n, dim], scaled by sqrt(dim), without positions; float32."""
        return lookup(weights[_TABLE], ids) * math.sqrt(self.dim)

    def positioned(self, rows: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
        """Adds positions. rows: float32 [batch * time, dim] -> the same, in the compute type."""
        x = tf.cast(tf.reshape(rows, [-1, time, self.dim]), self.dtype)
        return tf.reshape(x + tf.cast(self._positions[:time], self.dtype), [-1, self.dim])

    def position(self, t: tf.Tensor) -> tf.Tensor:
        """What is added at position t: [dim], in the compute type."""
        return tf.cast(self._positions[t], self.dtype)

    def encode(self, weights: Weights, x: tf.Tensor, mask: tf.Tensor, drop: Drop) -> tf.Tensor:
        """x: [batch * time, dim]; mask: float32 [batch, 1, 1, time], added -> x's shape."""
        batch = tf.shape(mask)[0]
        for i in range(self.num_layers):
            layer = f'encoder/layers_{i}'
            h = self.norm(weights, f'{layer}/self_attention_norm', x)
            q, k, v = self.heads(linear(weights, f'{layer}/self_attention/qkv', h), batch, 3)
            x += drop(self.attend(weights, f'{layer}/self_attention', q, k, v, mask))
            h = self.norm(weights, f'{layer}/feedforward_norm', x)
            x += drop(feedforward(weights, layer, h))
        return self.norm(weights, 'encoder/final_norm', x)

    def decode(
        self,
        weights: Weights,
        x: tf.Tensor,
        mask: tf.Tensor,
        source: tf.Tensor,
        source_mask: tf.Tensor,
        drop: Drop,
    ) -> tf.Tensor:
        """x: [batch * time, dim]; mask: [batch, 1, time, time]; source: [batch * s, dim]."""
        batch = tf.shape(source_mask)[0]
        for i in range(self.num_layers):
            layer = f'decoder/layers_{i}'
            h = self.norm(weights, f'{layer}/self_attention_norm', x)
            q, k, v = self.heads(linear(weights, f'{layer}/self_attention/qkv', h), batch, 3)
            x += drop(self.attend(weights, f'{layer}/self_attention', q, k, v, mask))
            h = self.norm(weights, f'{layer}/cross_attention_norm', x)
            (q,) = self.heads(linear(weights, f'{layer}/cross_attention/query', h), batch, 1)
            k, v = self.memory(weights, layer, source, batch)
            x += drop(self.attend(weights, f'{layer}/cross_attention', q, k, v, source_mask))
            h = self.norm(weights, f'{layer}/feedforward_norm', x)
            x += drop(feedforward(weights, layer, h))
        return self.norm(weights, 'decoder/final_norm', x)

    def memory(self, weights: Weights, layer: str, source: tf.Tensor, batch: tf.Tensor) -> Any:
        """Keys and values of the source, [batch, heads, s, head_dim]."""
        return self.heads(linear(weights, f'{layer}/cross_attention/key_value', source), batch, 2)

    def heads(self, rows: tf.Tensor, batch: tf.Tensor, parts: int) -> list[tf.Tensor]:
        """[batch * time, parts * dim] -> `parts` of [batch, heads, time, head_dim]."""
        size = self.dim // self.num_heads
        x = tf.reshape(rows, [batch, -1, parts * self.num_heads, size])
        return tf.split(tf.transpose(x, [0, 2, 1, 3]), parts, axis=1)

    def attend(
        self,
        weights: Weights,
        name: str,
        q: tf.Tensor,
        k: tf.Tensor,
        v: tf.Tensor,
        mask: Optional[tf.Tensor],
    ) -> tf.Tensor:
        """[batch, heads, time, head_dim] each -> [batch * time, dim]."""
        q *= tf.cast(q.shape[-1] ** -0.5, q.dtype)
        logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)
        if mask is not None:
            logits += mask
        context = tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v)
        rows = tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, self.dim])
        return linear(weights, f'{name}/output', rows)

    def norm(self, weights: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
        """Layer norm of rows, its statistics in float32."""
        x = tf.cast(x, tf.float32)
        centered = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
        y = centered * tf.math.rsqrt(variance + _EPSILON)
        return tf.cast(y * weights[f'{name}/scale'] + weights[f'{name}/bias'], self.dtype)


def linear(weights: Weights, name: str, rows: tf.Tensor) -> tf.Tensor:
    """rows: [n, input_dim] -> [n, output_dim]."""
    return tf.nn.bias_add(tf.matmul(rows, weights[f'{name}/w']), weights[f'{name}/b'])


def feedforward(weights: Weights, layer: str, rows: tf.Tensor) -> tf.Tensor:
    """rows: [n, dim] -> [n, dim]."""
    hidden = tf.nn.relu(linear(weights, f'{layer}/feedforward/up', rows))
    return linear(weights, f'{layer}/feedforward/down', hidden)


def padding_mask(paddings: tf.Tensor) -> tf.Tensor:
    """paddings: [batch, s] -> float32 [batch, 1, 1, s], to be added to logits."""
    return (paddings * _MASKED)[:, tf.newaxis, tf.newaxis, :]


def causal_mask(paddings: tf.Tensor) -> tf.Tensor:
    """paddings: [batch, t] -> float32 [batch, 1, t, t], to be added to logits."""
    time = tf.shape(paddings)[1]
    later = 1.0 - tf.linalg.band_part(tf.ones([time, time]), -1, 0)
    return tf.minimum(padding_mask(paddings), later * _MASKED)


@tf.custom_gradient
def lookup(table: tf.Tensor, ids: tf.Tensor) -> Any:
    """table[ids]; its gradient is one sum by segments."""

    def gradient(upstream: tf.Tensor) -> Any:
        return tf.math.unsorted_segment_sum(upstream, ids, table.shape[0]), None

    return tf.gather(table, ids), gradient


def _sinusoids(time: int, dim: int) -> tf.Tensor:
    """float32 [time, dim]."""
    inverse = np.exp(np.arange(dim // 2) * (-2.0 * math.log(10000.0) / dim))
    angles = np.arange(time)[:, np.newaxis] * inverse
    return tf.constant(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), tf.float32)
