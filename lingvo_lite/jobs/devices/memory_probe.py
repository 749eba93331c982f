"""Memory of a step: the largest batch is tried before training, and what does not fit is named."""

from __future__ import annotations

import contextlib
import logging
import resource
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.inputs import order, pipeline
from lingvo_lite.jobs.devices import runtime
from lingvo_lite.nested_map import NestedMap

_log = logging.getLogger(__name__)
_SIGNS = ('out of memory', 'out_of_memory', 'failed to allocate', 'bad_alloc')


def TryLargest(learner: Any, params: Any, inputs: Any, devices: runtime.Runtime) -> None:
    """Runs the largest batch forward and backward, by the trace of the step; nothing changes.

    Args:
      learner: to train with.
      params: the root Params of the run.
      inputs: the training input.
      devices: that share each batch.

    Raises:
      hyperparams.ConfigError: if it does not fit into memory.
    """
    plan = order.Largest(inputs.Order(True).Buckets())
    text = BucketText(plan, inputs.side_names)
    # Before it is tried: a system that overcommits its memory ends the process without a word.
    _log.info('The largest batch: %s.', text)
    try:
        batches = inputs.Arrays(plan, devices.num_workers, devices.worker, devices.replicas)
    except Exception as error:
        if not IsOutOfMemory(error):
            raise
        raise _TooLarge(params, text) from error
    ResetPeak()
    with Explained(params, batches, text):
        learner.TryStep(batches)
    peak = Peak()
    used = f': {Gigabytes(peak)}' if peak is not None else ''
    _log.info('It fits into memory%s.', used)


@contextlib.contextmanager
def Explained(params: Any, batches: Sequence[NestedMap], what: str = 'a batch') -> Iterator[None]:
    """Turns running out of memory into a mistake in the configuration.

    Args:
      params: the root Params of the run.
      batches: for each replica of this worker, that are computed inside.
      what: they are.

    Raises:
      hyperparams.ConfigError: that says what to lower.
    """
    try:
        yield
    except Exception as error:
        if not IsOutOfMemory(error):
            raise
        raise _TooLarge(params, f'{what}; on a replica {_Shape(batches[0])}') from error


def IsOutOfMemory(error: BaseException) -> bool:
    """Whether memory, of a device or the host, is why something failed."""
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return True
    if isinstance(error.__cause__, MemoryError):  # as the input reports it
        return True
    text = str(error).lower()
    return isinstance(error, tf.errors.OpError) and any(sign in text for sign in _SIGNS)


def BucketText(plan: order.PlannedBatch, side_names: Sequence[str]) -> str:
    """'bucket 16 x 24 (source x target): 128 rows of 40 tokens are 5,120 tokens'.

    Args:
      plan: a planned batch.
      side_names: of the input.
    """
    shape = ' x '.join(map(str, plan.padded))
    rows, size = len(plan.ids), sum(plan.padded)
    unit = 'frames' if side_names[0] == 'frames' else 'tokens'
    return (
        f'bucket {shape} ({" x ".join(side_names)}): {rows:,} rows of {size:,} {unit} are '
        f'{rows * size:,}'
    )


def Peak() -> Optional[int]:
    """Most bytes used since `ResetPeak`: of the fullest GPU, or else of this process's memory.

    None where the system does not tell.
    """
    gpus = tf.config.list_logical_devices('GPU')
    if gpus:
        return max(_GpuMemory(gpu)['peak'] for gpu in gpus)
    return _Status('VmHWM')


def Used() -> Optional[int]:
    """Bytes used now, of what `Peak` is about."""
    gpus = tf.config.list_logical_devices('GPU')
    if gpus:
        return max(_GpuMemory(gpu)['current'] for gpu in gpus)
    return _Status('VmRSS')


def Free() -> int:
    """Bytes of the host's memory that can be had without swapping; Linux only."""
    with open('/proc/meminfo', encoding='utf-8') as file:
        for line in file:
            if line.startswith('MemAvailable:'):
                return 1024 * int(line.split()[1])
    raise OSError('/proc/meminfo has no MemAvailable.')


def CapAddressSpace(more: int) -> None:
    """Makes this process fail to allocate so many bytes more than it has; Linux only."""
    now = _Status('VmSize') or 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + more
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


def ResetPeak() -> bool:
    """Makes `Peak` forget what was before; whether the system can."""
    gpus = tf.config.list_logical_devices('GPU')
    for gpu in gpus:
        tf.config.experimental.reset_memory_stats(gpu.name.partition('device:')[2])
    if gpus:
        return True
    try:
        with open('/proc/self/clear_refs', 'w', encoding='utf-8') as file:
            file.write('5')
    except OSError:
        return False
    return True


def Gigabytes(size: float) -> str:
    """'1.25 GB' of so many bytes."""
    return f'{size / 1e9:.2f} GB'


def _TooLarge(params: Any, what: str) -> hyperparams.ConfigError:
    train = params.task.train
    limits = pipeline.BatchLimits(params.input)
    lower = ' or '.join(f'input.{key}={value}' for key, value in limits.items())
    return hyperparams.ConfigError(
        f'{params.model}: out of memory in {what}. Lower {lower}, or raise '
        f"task.train.accumulation={train.accumulation}. 'lingvo_lite tune-batch {params.model}' "
        'finds what fits.'
    )


def _Shape(batch: NestedMap) -> str:
    """'target.ids is [128, 24]', of the largest array."""
    path, value = max(batch.FlattenItems(), key=lambda item: item[1].size)
    return f'{path} is {list(value.shape)}'


def _GpuMemory(gpu: Any) -> dict[str, int]:
    return tf.config.experimental.get_memory_info(gpu.name.partition('device:')[2])


def _Status(key: str) -> Optional[int]:
    """Bytes that Linux reports of this process; None elsewhere."""
    try:
        with open('/proc/self/status', encoding='utf-8') as file:
            for line in file:
                if line.startswith(f'{key}:'):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None
