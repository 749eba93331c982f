"""The average of several checkpoints, which can stand wherever one can be evaluated.

    average.theta = 1/n sum_i checkpoint_i.theta

Averaging the last checkpoints of one training often gains what a longer schedule would: Vaswani et
al. 2017 (https://arxiv.org/abs/1706.03762), section 6.1, average the last 5 or 20.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lingvo_lite.runs import tables
from lingvo_lite.runs.checkpoints import tensors


def Average(prefixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Averages weights and moving averages of checkpoints of one model.

    Sums are float64, one variable at a time: memory holds one model and a few copies of its
    largest variable. What is no float (counters), and the run's `.step` and `.updates`, come from
    the checkpoint of the highest step. Optimizer and input state are left out: an average cannot
    be trained on, except through init_from.

    Args:
      prefixes: at least one checkpoint.

    Returns:
      {name: array}, with the dtypes of the checkpoints.

    Raises:
      FileNotFoundError: if one of them does not exist.
      tensors.MismatchError: with a table, if they are not of one model.
      tensors.CorruptError: if one of them cannot be read.
    """
    if not prefixes:
        raise ValueError('There are no checkpoints to average.')
    contents = [_Averaged(prefix) for prefix in prefixes]
    for prefix, other in zip(prefixes[1:], contents[1:]):
        _CheckSame(prefixes[0], contents[0], prefix, other)
    newest = max(range(len(prefixes)), key=lambda i: _Step(prefixes[i], contents[i]))
    result: dict[str, np.ndarray] = {}
    for name, entry in contents[0].items():
        if not entry.dtype.is_floating or name.startswith('.'):
            result[name] = _Get(prefixes[newest], contents[newest], name)
            continue
        total = np.zeros(entry.shape, np.float64)
        for prefix, held in zip(prefixes, contents):
            total += _Get(prefix, held, name)
        total /= len(prefixes)
        result[name] = total.astype(entry.dtype.as_numpy_dtype)
    return result


def Write(prefixes: Sequence[str], prefix: str) -> None:
    """Writes the `Average` of `prefixes` as the checkpoint `prefix`."""
    tensors.Save(prefix, Average(prefixes))


def _Averaged(prefix: str) -> dict[str, tensors.Entry]:
    def IsWanted(name: str) -> bool:
        return name in ('.step', '.updates') or tensors.IsWeight(tensors.WithoutEma(name))

    return {name: entry for name, entry in tensors.Contents(prefix).items() if IsWanted(name)}


def _CheckSame(
    first: str,
    wanted: dict[str, tensors.Entry],
    other: str,
    found: dict[str, tensors.Entry],
) -> None:
    rows = [
        (name, *tensors.ShowEntries(wanted.get(name), found.get(name)))
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    ]
    if rows:
        raise tensors.MismatchError(
            f'{tables.Format(("variable", first, other), rows)}\n'
            f'{other} is no checkpoint of the same model as {first}, so they have no average.'
        )


def _Step(prefix: str, contents: dict[str, tensors.Entry]) -> int:
    return int(tensors.Restore(prefix, ['.step'])['.step']) if '.step' in contents else 0


def _Get(prefix: str, contents: dict[str, tensors.Entry], name: str) -> np.ndarray:
    ((_, value),) = tensors.ReadEach(prefix, [name], contents)
    return value.numpy()
