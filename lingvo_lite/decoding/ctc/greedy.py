"""The text of the most probable alignment of a CTC model's output."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite.decoding.ctc.frame_tokens import NO_TOKEN, compact
from lingvo_lite.nested_map import NestedMap


def greedy(log_probs: tf.Tensor, paddings: tf.Tensor, blank_id: int = 0) -> NestedMap:
    """The text of the most probable alignment; of equal tokens the lowest id.

    Args:
      log_probs: float32 [batch, time, vocab].
      paddings: [batch, time].
      blank_id: of the blank.

    Returns:
      NestedMap as `search.CtcSearch.Decode` describes it, with one hypothesis.
    """
    real = paddings < 0.5
    best = tf.argmax(log_probs, axis=-1, output_type=tf.int32)
    before = tf.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=NO_TOKEN)
    emits = real & (best != blank_id) & (best != before)
    scores = tf.reduce_sum(tf.where(real, tf.reduce_max(log_probs, axis=-1), 0.0), axis=1)
    ids, lengths = compact(tf.where(emits, best, NO_TOKEN)[:, tf.newaxis], blank_id)
    return NestedMap(ids=ids, lengths=lengths, scores=scores[:, tf.newaxis])
