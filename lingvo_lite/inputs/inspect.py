"""What `lingvo_lite inspect-input` prints: some batches as text, with their padding."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from lingvo_lite import nested_map
from lingvo_lite.inputs import feed as feed_lib, pipeline

_ROWS = 2  # examples of a batch that are shown
_LONGEST = 3  # longest examples of a batch that are named


def InspectBatches(inputs: pipeline.BaseInput, num_batches: int = 3, train: bool = True) -> str:
    """Text about the first batches: shapes, padding share, some rows, the longest examples.

    Args:
      inputs: any input.
      num_batches: how many batches are shown.
      train: whether they are those of training or of evaluation.
    """
    lines = [f'{inputs.NumExamples():,} examples']
    with inputs.Batches(train=train) as feed:
        for _ in range(num_batches):
            batch = next(feed, None)
            if batch is None:
                lines.append('(no more batches)')
                break
            lines += ['', *_Batch(inputs, batch)]
    return '\n'.join(lines) + '\n'


def PaddingShare(paddings: np.ndarray) -> float:
    """The share of positions without data. paddings: [batch, time]."""
    return float(np.mean(paddings)) if paddings.size else 0.0


def _Batch(inputs: pipeline.BaseInput, batch: feed_lib.Batch) -> list[str]:
    rows = batch.replicas[0]
    lines = [
        f'batch {batch.index}, epoch {batch.epoch}: {batch.num_examples:,} examples, '
        f'{batch.num_tokens:,} tokens'
    ]
    for name, sound in _Sounds(rows).items():
        count, samples = sound.waveform.shape
        share = 1 - float(np.sum(sound.num_samples)) / max(1, count * samples)
        lines.append(f'  {name}: {count} x {samples:,} samples, padding {100 * share:.1f}%')
    sides = {key: value for key, value in rows.items() if 'paddings' in _AsMap(value)}
    for name, side in sides.items():
        shape = ' x '.join(str(size) for size in side.paddings.shape)
        lines.append(f'  {name}: {shape}, padding {100 * PaddingShare(side.paddings):.1f}%')
    real = np.flatnonzero(rows.id != feed_lib.FILL)
    for row in real[:_ROWS]:
        lines += _Row(inputs, rows, sides, int(row))
    lengths = {name: (1 - side.paddings).sum(axis=1) for name, side in sides.items()}
    total = np.sum(list(lengths.values()), axis=0)
    for row in real[np.argsort(-total[real], kind='stable')][:_LONGEST]:
        sizes = ', '.join(f'{name} {int(length[row])}' for name, length in lengths.items())
        lines.append(f'  longest: {sizes} tokens, {inputs.Where(int(rows.id[row]))}')
    return lines


def _Row(
    inputs: pipeline.BaseInput, rows: nested_map.NestedMap, sides: dict[str, Any], row: int
) -> list[str]:
    """An example as the text that it was and as the text of its ids."""
    index = int(rows.id[row])
    lines = [f'  example {index}, {inputs.Where(index)}']
    strings = getattr(inputs, 'Strings', None)
    tokenizer: Optional[Any] = getattr(inputs, 'tokenizer', None)
    texts = strings(index) if strings else {}
    for name, sound in _Sounds(rows).items():
        seconds = sound.num_samples[row] / inputs.params.sample_rate
        lines.append(f'    {name}: {texts.get(name, "")}, {seconds:.2f} s')
    for name, side in sides.items():
        if name in texts:
            lines.append(f'    {name} text: {texts[name]}')
        ids = side.get('labels', side.get('ids'))
        if ids is not None:
            own = ids[row][side.paddings[row] == 0].tolist()
            lines.append(f'    {name} ids:  {" ".join(map(str, own))}')
            if tokenizer is not None:
                lines.append(f'    {name} back: {tokenizer.Decode([own])[0]}')
    return lines


def _Sounds(rows: nested_map.NestedMap) -> dict[str, Any]:
    """The sides of a batch that are audio; see speech.py."""
    return {key: value for key, value in rows.items() if 'num_samples' in _AsMap(value)}


def _AsMap(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
