"""Vectors for tokens."""

from __future__ import annotations

import math
from typing import Callable

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.layers.initializers import WeightInit

# Matrix products with the vocabulary as an axis are fastest at multiples of this.
ROW_MULTIPLE = 8


class Embedding(base.BaseLayer):
    """y_t = table[ids_t], times sqrt(model_dim) if so configured.

    ids: int [...], in [0, vocab_size) -> y: [..., model_dim].

    The table has a multiple of 8 rows, so that a softmax can share it (`softmax.SoftmaxLoss`);
    those behind vocab_size are never looked up. On a CPU an id that is out of range is an error.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('vocab_size', REQUIRED, 'Number of tokens.', type=int)
        p.Define('model_dim', REQUIRED, 'Size of a vector.', type=int)
        p.Define('scale_sqrt_depth', False, 'Whether to multiply with sqrt(model_dim).')
        # N(0, 1 / model_dim): vectors of length 1.
        p.params_init = WeightInit.GaussianSqrtFanOut()
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        shape = [padded_rows(p.vocab_size), p.model_dim]
        self.CreateVariable('table', base.Weight(shape, tokens=0))

    def FProp(self, ids: tf.Tensor) -> tf.Tensor:
        # Rows first, cast then: a cast of the whole table would cost more than the rest.
        rows = lookup(self.theta32.table, ids)
        if self.params.scale_sqrt_depth:
            rows *= math.sqrt(self.params.model_dim)
        return tf.cast(rows, self.dtype)


def padded_rows(vocab_size: int) -> int:
    """The smallest multiple of 8 that is at least `vocab_size`."""
    return -(-vocab_size // ROW_MULTIPLE) * ROW_MULTIPLE


def lookup(table: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """table[ids], with a dense gradient.

    It is a sum by segments, which is faster here than the tf.IndexedSlices of tf.gather, and can
    be added, reduced over replicas and clipped like any other.

    Args:
      table: [rows, dim].
      ids: int [...].

    Returns:
      [..., dim].
    """
    table = tf.convert_to_tensor(table)
    num_rows, dim = table.shape

    @tf.custom_gradient
    def Lookup(table: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def Gradient(upstream: tf.Tensor) -> tf.Tensor:
            # [..., dim] -> [lookups, dim] -> [rows, dim]
            flat = tf.reshape(upstream, [-1, dim])
            return tf.math.unsorted_segment_sum(flat, tf.reshape(ids, [-1]), num_rows)

        return tf.gather(table, ids), Gradient

    return Lookup(table)
