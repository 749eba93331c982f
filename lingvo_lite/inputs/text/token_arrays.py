"""Token ids of some examples as the arrays of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from lingvo_lite import nested_map
from lingvo_lite.inputs.text import tokenizers

Rows = Sequence[Optional[Sequence[int]]]


def Labels(rows: Rows, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row with </s> behind it, padded.

        [[7, 8], None], length 4  ->  [[7 8 2 0] [0 0 0 0]], [[0 0 0 1] [1 1 1 1]]

    Args:
      rows: the tokens of each example; None is padding only.
      length: of the arrays, more than that of any row.

    Returns:
      (labels int32 [rows, length], paddings float32 [rows, length]: 1.0 where there is no token).
    """
    counts = np.array([-1 if row is None else len(row) for row in rows])
    labels = np.full((len(rows), length), tokenizers.PAD_ID, np.int32)
    for i, row in enumerate(rows):
        if row is not None:
            labels[i, : len(row)] = row
            labels[i, len(row)] = tokenizers.EOS_ID
    return labels, (np.arange(length) > counts[:, None]).astype(np.float32)


def Targets(rows: Rows, length: int) -> nested_map.NestedMap:
    """What a decoder reads and what it should say.

        [[7, 8], None], length 4  ->  ids [[1 7 8 0] [0 0 0 0]], labels [[7 8 2 0] [0 0 0 0]]

    Args:
      rows, length: as for `Labels`.

    Returns:
      ids (<s> tokens), labels (tokens </s>), paddings and weights, all [rows, length].
    """
    labels, paddings = Labels(rows, length)
    ids = np.full_like(labels, tokenizers.BOS_ID)
    ids[:, 1:] = labels[:, :-1]
    ids[paddings > 0] = tokenizers.PAD_ID
    return nested_map.NestedMap(ids=ids, labels=labels, paddings=paddings, weights=1 - paddings)
