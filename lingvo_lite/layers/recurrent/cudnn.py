"""LSTM and GRU over whole sequences by cuDNN, on a GPU.

cuDNN takes the weights of a layer as one buffer: the matrices of the gates for the input, those for
the last output, each [cell_dim, size of what it is multiplied with], then the biases of the first
and of the second, in its own order of gates (NVIDIA, cuDNN API, cudnnGetRNNWeightParams).

Tests hold the buffers against cuDNN's documented equations in NumPy; the kernel itself needs a GPU.
"""

from __future__ import annotations

import tensorflow as tf


def available(dtype: tf.DType) -> bool:
    """Whether there is a GPU, and a kernel for the compute type."""
    return bool(tf.config.list_logical_devices('GPU')) and dtype in (tf.float32, tf.float16)


def lstm_buffer(w: tf.Tensor, u: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The weights of an LSTM.

    Args:
      w: [input_dim, 4 * dim], gates i, f, o, g.
      u: [dim, 4 * dim].
      b: [4 * dim].

    Returns:
      [4 * dim * (input_dim + dim + 2)], gates i, f, g, o.
    """
    order = (0, 1, 3, 2)
    return _buffer(w, u, b, tf.zeros_like(b), order)


def gru_buffer(w: tf.Tensor, u: tf.Tensor, b: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    """The weights of a GRU.

    Args:
      w: [input_dim, 3 * dim], gates z, r, n.
      u: [dim, 3 * dim].
      b: [3 * dim].
      d: [dim], the bias of u_n, inside of the reset.

    Returns:
      [3 * dim * (input_dim + dim + 2)], gates r, z, n.
    """
    order = (1, 0, 2)
    zeros = tf.zeros_like(d)
    return _buffer(w, u, b, tf.concat([zeros, zeros, d], axis=0), order)


def run(
    mode: str,
    buffer: tf.Tensor,
    x: tf.Tensor,
    h: tf.Tensor,
    c: tf.Tensor,
    lengths: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """One layer in one direction.

    Args:
      mode: 'lstm' or 'gru'.
      buffer: from `lstm_buffer` or `gru_buffer`.
      x: [time, batch, input_dim].
      h, c: [batch, dim], before the first step; a GRU does nothing with c.
      lengths: int32 [batch], of each sequence.

    Returns:
      Outputs [time, batch, dim], zeros from each length on, and h and c behind the last step.
    """
    some = (lengths > 0)[:, tf.newaxis]
    has_c = mode == 'lstm'
    ys, last_h, last_c, _, _ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=h[tf.newaxis],
        input_c=c[tf.newaxis] if has_c else tf.zeros([], x.dtype),
        params=buffer,
        # cuDNN refuses empty sequences.
        sequence_lengths=tf.maximum(lengths, 1),
        rnn_mode=mode,
    )
    ys = tf.where(some, ys, tf.zeros([], ys.dtype))
    return ys, tf.where(some, last_h[0], h), tf.where(some, last_c[0], c) if has_c else c


def _buffer(
    w: tf.Tensor, u: tf.Tensor, b: tf.Tensor, d: tf.Tensor, order: tuple[int, ...]
) -> tf.Tensor:
    """w, u, b and d, the bias of u, in cuDNN's order of gates."""
    parts = []
    for matrix in (w, u):
        gates = tf.split(matrix, len(order), axis=1)
        # [size, dim] -> [dim, size]
        parts += [tf.reshape(tf.transpose(gates[n]), [-1]) for n in order]
    for bias in (b, d):
        gates = tf.split(bias, len(order))
        parts += [gates[n] for n in order]
    return tf.concat(parts, axis=0)
