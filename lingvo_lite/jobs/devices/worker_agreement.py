"""What the workers of a cluster find out together.

All workers have to call these functions at the same point; they wait for each other there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.jobs.devices import runtime

_BITS = 16  # of a number at a time: float32 holds them exactly, and every device can add it


def OnAny(devices: runtime.Runtime, mine: bool) -> bool:
    """Whether it holds on one worker at least."""
    if devices.num_workers < 2:
        return mine
    return _Sum(devices, [float(mine)])[0] > 0


def CheckSame(devices: runtime.Runtime, where: str, mine: Mapping[str, Any]) -> None:
    """Makes sure that all workers hold the same as worker 0.

    Args:
      devices: of the cluster.
      where: what all of them should see, for the message: a log directory.
      mine: {what: value}; a value is anything that JSON can hold.

    Raises:
      hyperparams.ConfigError: on every worker, if it is not so.
    """
    own = [_Parts(value) for value in mine.values()]
    flat = [float(part) for parts in own for part in parts]
    chiefs = iter(_Sum(devices, flat if devices.is_chief else [0.0] * len(flat)))
    differ = [what for what, parts in zip(mine, own) if parts != [next(chiefs) for _ in parts]]
    if OnAny(devices, bool(differ)):
        who = f'{" and ".join(differ)} of worker {devices.worker} are not those of worker 0'
        raise hyperparams.ConfigError(
            f'{who if differ else "Another worker does not hold what worker 0 holds"}. All workers '
            f'need one command, the same data, and one log directory that all of them see: {where}.'
        )


def _Parts(value: Any) -> list[float]:
    digest = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).digest()
    size = _BITS // 8
    return [float(int.from_bytes(digest[i : i + size], 'big')) for i in range(0, 8, size)]


def _Sum(devices: runtime.Runtime, mine: Sequence[float]) -> list[float]:
    """Sums over workers; each counts once, however many replicas it has."""
    strategy = devices.strategy
    nothing = [0.0] * len(mine)
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(
            nothing if context.replica_id_in_sync_group % devices.replicas else mine
        )
    )
    return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy().tolist()
