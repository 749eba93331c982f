"""A process that takes steps of batches that may be too large, for `tune_batch`."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.inputs import pipeline
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import memory_probe, runtime
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import learner, precision

_SLACK = 2**30  # address space beyond the limit: what is reserved and not used


class Bucket(NamedTuple):
    """Batches of one padded shape.

    Attributes:
      padded: length of each side.
      rows: most rows that a batch has now.
    """

    padded: tuple[int, ...]
    rows: int

    def Shape(self) -> str:
        """'40 x 48'."""
        return ' x '.join(map(str, self.padded))


class About(NamedTuple):
    """What the process says of itself.

    Attributes:
      device: description.
      limit: bytes; None for what the device has.
      buckets: to be tried, the shortest first.
      num_examples: of the dataset.
      keys: {param of the input that limits a batch: value}.
      side_names: of the lengths.
    """

    device: str
    limit: Optional[int]
    buckets: list[Bucket]
    num_examples: int
    keys: dict[str, int]
    side_names: tuple[str, ...]


class TrialProcess:
    """A process that takes steps; a new one is started when it dies of one."""

    def __init__(self, request: tuple[Any, ...]):
        """Takes (model, source, device, num_buckets, limit_gb), as `tune_batch.Run` has them."""
        self._request = request
        self._process: Any = None
        self._pipe: Any = None

    def __enter__(self) -> TrialProcess:
        return self

    def __exit__(self, *error: Any) -> None:
        self._End()

    def Start(self) -> About:
        """Starts the process; returns what it says of itself."""
        context = multiprocessing.get_context('spawn')
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_Serve, args=(other, *self._request), daemon=True)
        self._process.start()
        other.close()
        try:
            kind, answer = self._pipe.recv()
        except EOFError:
            self._End()
            raise hyperparams.ConfigError(
                'tune-batch: not even a step of one row fits into memory. Raise --limit, or make '
                'the model smaller.'
            ) from None
        if kind == 'mistake':
            raise hyperparams.ConfigError(answer)
        return answer

    def Step(self, bucket: int, rows: int) -> tuple[Optional[int], float]:
        """(peak memory of a step in bytes, or None if it does not fit; seconds)."""
        if self._process is None:
            self.Start()
        self._pipe.send((bucket, rows))
        try:
            kind, answer = self._pipe.recv()
        except EOFError:  # it died
            self._End()
            return None, 0.0
        if kind == 'mistake':
            raise hyperparams.ConfigError(answer)
        if answer[0] is None:
            self._End()  # what it could not allocate may have left it in any state
        return answer

    def _End(self) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None


def _Serve(
    pipe: Any,
    model: str,
    source: job_params.Source,
    device: runtime.Wish,
    num_buckets: int,
    limit_gb: float,
) -> None:
    """In the process: says what there is, then takes a step for each (bucket, rows) that comes."""
    try:
        steps = _Steps(model, source, device, num_buckets, limit_gb)
        pipe.send(('about', steps.about))
        while True:
            pipe.send(('step', steps.Take(*pipe.recv())))
    except EOFError:  # no more is wanted
        return
    except Exception as error:
        if isinstance(error, hyperparams.ConfigError):
            pipe.send(('mistake', str(error)))
            return
        pipe.send(('mistake', f'{model}: {type(error).__name__}: {error}'))
        raise


class _Steps:
    """Takes steps of batches with as many rows as wanted."""

    def __init__(
        self,
        model: str,
        source: job_params.Source,
        device: runtime.Wish,
        num_buckets: int,
        limit_gb: float,
    ):
        params = job_params.ForDataset(job_params.Experiment(model, source), 'Train', source)
        precision.Apply(params.task)
        job_params.DryBuild(params)
        self._inputs = job_params.BuildInput(params.input, train=True)
        self._devices = runtime.Start(device, single_worker=True)
        plans = self._inputs.Order(True).Buckets()
        plans.sort(key=lambda plan: sum(plan.padded))
        last = len(plans) - 1
        chosen = np.unique(np.linspace(last, 0, num_buckets).round().astype(int))
        self._plans = [plans[i] for i in chosen]
        with self._devices.strategy.scope():
            task = params.task.Instantiate()
        self._learner = learner.Learner(task, self._devices.strategy)
        self._arrays: dict[int, list[NestedMap]] = {}
        limit = self._LimitMemory(limit_gb)
        self.Take(0, 1)  # what tracing needs is no part of a step
        self.about = About(
            f'{self._devices.description}, precision {params.task.train.precision}',
            limit,
            [Bucket(plan.padded, len(plan.ids)) for plan in self._plans],
            self._inputs.NumExamples(),
            pipeline.BatchLimits(params.input),
            tuple(self._inputs.side_names),
        )

    def Take(self, bucket: int, rows: int) -> tuple[Optional[int], float]:
        """(peak memory of a whole step in bytes, None if it does not fit; seconds)."""
        try:
            batches = [_Tiled(batch, self._RowsEach(rows)) for batch in self._Batches(bucket)]
            memory_probe.ResetPeak()
            begin = time.perf_counter()
            self._learner.TrainStep(batches).Read()
            return memory_probe.Peak(), time.perf_counter() - begin
        except Exception as error:
            if memory_probe.IsOutOfMemory(error):
                return None, 0.0
            raise

    def _RowsEach(self, rows: int) -> int:
        return -(-rows // self._devices.replicas)

    def _Batches(self, bucket: int) -> list[NestedMap]:
        if bucket not in self._arrays:
            plan = self._plans[bucket]
            self._arrays[bucket] = self._inputs.Arrays(plan, replicas=self._devices.replicas)
        return self._arrays[bucket]

    def _LimitMemory(self, limit_gb: float) -> Optional[int]:
        """The limit in bytes; on a CPU nothing can be allocated far beyond it."""
        limit = int(limit_gb * 1e9)
        if tf.config.list_logical_devices('GPU'):
            return limit or None
        used = memory_probe.Used()
        if used is None or not memory_probe.ResetPeak():
            raise hyperparams.ConfigError(
                'tune-batch measures the memory of a CPU by /proc, which this system does not have.'
            )
        limit = limit or used + int(0.8 * memory_probe.Free())
        if used >= limit:
            raise hyperparams.ConfigError(
                f'tune-batch: --limit={limit / 1e9:g}: the model alone takes '
                f'{memory_probe.Gigabytes(used)}.'
            )
        memory_probe.CapAddressSpace(limit - used + _SLACK)
        return limit


def _Tiled(batch: NestedMap, rows: int) -> NestedMap:
    """A batch of so many rows: those of `batch` again and again."""

    def Tile(value: Any) -> Any:
        value = np.asarray(value)
        return np.take(value, np.arange(rows) % len(value), axis=0) if value.ndim else value

    return batch.Transform(Tile)
