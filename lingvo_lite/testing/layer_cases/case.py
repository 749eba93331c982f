"""What a case is, and its inputs.

The batch of each case has examples of several lengths: one whose vectors are zeros, one of length
1, and one that is all padding. What stands at paddings is noise.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from lingvo_lite.nested_map import NestedMap

DIM = 8
VOCAB = 13
# Lengths of the examples along each axis; 'source' is what a decoder looks at.
LENGTHS = {
    'time': (4, 1, 0, 5),
    'source': (3, 1, 0, 6),
    'labels': (2, 1, 0, 0),
    'samples': (90, 1, 0, 137),
}
# The example whose vectors are zeros.
ZEROS = 3


@dataclasses.dataclass(frozen=True)
class Field:
    """One input of a layer: a tensor [batch, axis, ...].

    Attributes:
      kind: 'vectors' ([batch, axis, DIM]), 'ids', 'paddings', 'weights' or 'waveform' ([batch,
        axis]).
      axis: a key of LENGTHS.
    """

    kind: str
    axis: str = 'time'


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and how to call it.

    Attributes:
      name: of the test; the class, and what is special about its Params.
      params: of the layer.
      fields: {name: Field}, its inputs.
      call: (layer, inputs) -> NestedMap with `by_time`, [batch, time, ...], or `by_example`,
        [batch]; and, if `by_time` is of another length than the axis 'time', its `paddings`.
      steps: (layer, inputs) -> what `by_time` must be, computed position by position; None if
        there is no such way.
      draws: whether training has random draws, other than those of a layer Dropout.
    """

    name: str
    params: Any
    fields: dict[str, Field]
    call: Callable[[Any, NestedMap], NestedMap]
    steps: Optional[Callable[[Any, NestedMap], tf.Tensor]] = None
    draws: bool = False


def Example(case: Case, index: int, pad: int = 0, noise: int = 0) -> NestedMap:
    """Inputs of one example, a batch of 1.

    Args:
      case: the case.
      index: of the example; what is in it depends on this alone.
      pad: how many padded positions stand behind it. An empty example has one at least.
      noise: seed of what stands at padded positions.
    """
    inputs = NestedMap()
    for name, field in case.fields.items():
        length = LENGTHS[field.axis][index]
        padded = max(1, length + pad)
        values = _Values(field, f'{name}/{index}', length)
        if index == ZEROS and field.kind in ('vectors', 'waveform'):
            values = np.zeros_like(values)
        rest = _Values(field, f'{name}/{index}/{noise}', padded - length)
        if field.kind in ('paddings', 'weights'):
            rest = np.full_like(rest, 1.0 if field.kind == 'paddings' else 0.0)
        inputs[name] = np.concatenate([values, rest])[np.newaxis]
    return inputs


def Batch(case: Case) -> NestedMap:
    """All examples of the case as one batch, padded to the longest."""
    longest = {axis: max(lengths) for axis, lengths in LENGTHS.items()}
    rows = []
    for index in range(len(LENGTHS['time'])):
        row = NestedMap()
        for axis, length in longest.items():
            example = Example(case, index, pad=length - LENGTHS[axis][index])
            row.update({k: v for k, v in example.items() if case.fields[k].axis == axis})
        rows.append(row)
    return NestedMap({k: np.concatenate([row[k] for row in rows]) for k in rows[0]})


def _Values(field: Field, key: str, length: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if field.kind == 'vectors':
        return rng.normal(size=[length, DIM]).astype(np.float32)
    if field.kind == 'waveform':
        return rng.uniform(-1.0, 1.0, size=[length]).astype(np.float32)
    if field.kind == 'ids':
        return rng.integers(0, VOCAB, size=[length]).astype(np.int32)
    return np.full([length], 1.0 if field.kind == 'weights' else 0.0, np.float32)
