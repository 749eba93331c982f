"""Hypotheses as records that people and tools can read."""

from __future__ import annotations

from typing import Any

import numpy as np

from lingvo_lite.nested_map import NestedMap


def records(decoded: NestedMap, inputs: Any) -> list[dict[str, Any]]:
    """A JSON-able record of each row.

    Args:
      decoded: what `search.Search.Decode` returned, as numpy arrays, with `id`, int [rows].
      inputs: `inputs.Strings(id)` is the text of an example, `inputs.tokenizer` makes ids text.

    Returns:
      For each row id, source, hypotheses (text, the best first), scores, and, if it is known,
      reference.
    """
    num = decoded.ids.shape[1]
    texts = inputs.tokenizer.Decode(
        [
            ids[:length].tolist()
            for row, lengths in zip(decoded.ids, decoded.lengths)
            for ids, length in zip(row, lengths)
        ]
    )
    found = []
    for row, example in enumerate(decoded.id):
        strings = inputs.Strings(int(example))
        kept = [n for n in range(num) if np.isfinite(decoded.scores[row, n])]
        record = {
            'id': int(example),
            'source': strings.source,
            'hypotheses': [texts[row * num + n] for n in kept],
            'scores': [round(float(decoded.scores[row, n]), 6) for n in kept],
        }
        if strings.Get('target') is not None:
            record['reference'] = strings.target
        found.append(record)
    return found


def best(record: dict[str, Any]) -> str:
    """The best hypothesis of a record; '' if there is none."""
    return record['hypotheses'][0] if record['hypotheses'] else ''
