"""Cutting a batch into micro-batches, to compute a large step in a small memory."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from lingvo_lite.nested_map import NestedMap


def MicroBatch(
    batch: NestedMap, number: int, count: int, after: Sequence[tf.Tensor] = ()
) -> tuple[NestedMap, tf.Tensor]:
    """Rows rows*number//count to rows*(number+1)//count of a batch.

        batch of rows 0 1 2 3 4, count=2   ->   0 1 | 2 3 4

    A batch of fewer rows than micro-batches leaves some without rows: these repeat a row, because
    shapes of size 0 are a trap for many ops, and are not to be counted.

    Args:
      batch: every field that has axes has the rows as its first.
      number: of the micro-batch, from 0.
      count: of the micro-batches.
      after: tensors to be computed before the rows are cut out, so that the executor, which sees
        all micro-batches at once, keeps the activations of one at a time.

    Returns:
      The micro-batch, and a float32 scalar: 1.0, or 0.0 if it is not to be counted.
    """
    with_rows = [value for value in batch.Flatten() if value.shape.rank]
    rows = tf.shape(with_rows[0])[0]
    start = rows * number // count
    end = rows * (number + 1) // count
    counted = tf.cast(end > start, tf.float32)
    end = tf.maximum(end, start + 1)

    def Cut(value: tf.Tensor) -> tf.Tensor:
        return value[start:end] if value.shape.rank else value

    # One barrier, not an edge from every gradient to every field.
    with tf.control_dependencies([tf.group(*after)] if after else []):
        return batch.Transform(Cut), counted
