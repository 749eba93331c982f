"""lingvo_lite tune-batch MODEL: the largest batch of each bucket that fits into memory.

Steps are taken in a process of its own, which may die of a batch that is too large: the number of
rows is doubled until one does not fit, then the gap is halved. On a GPU the device says what does
not fit. On a CPU it is the limit given, against the measured peak of the process's memory; rows
that would go beyond it, by what was measured so far, are not tried.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional, TextIO

import numpy as np
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.inputs import pipeline
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import memory_probe, runtime
from lingvo_lite.jobs.reporting import console
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import learner, precision

_log = logging.getLogger(__name__)
_FINE = 0.05  # of the rows: the gap at which the search ends
_HEADROOM = 0.95  # of what fits: other shapes, and what the allocator cannot use
_SLACK = 2**30  # address space beyond the limit: what is reserved and not used


class Bucket(NamedTuple):
    """Batches of one padded shape.

    Attributes:
      padded: length of each side.
      rows: most rows that a batch has now.
    """

    padded: tuple[int, ...]
    rows: int


class Tuned(NamedTuple):
    """What was found for a bucket.

    Attributes:
      bucket: which.
      rows: most rows that fit; 0 if not even one does.
      peak: bytes used with these; None if unknown.
      seconds: of a step with these.
      is_all: whether more rows than there are examples would fit.
    """

    bucket: Bucket
    rows: int
    peak: Optional[int]
    seconds: float
    is_all: bool


def Run(
    model: str,
    source: job_params.Source,
    device: runtime.Wish,
    out: TextIO,
    limit_gb: float = 0.0,
    num_buckets: int = 6,
) -> int:
    """Writes the table, and the --set to use.

    Args:
      model: the experiment.
      source: changes to the params.
      device: to compute on.
      out: gets the table.
      limit_gb: memory that may be used, in 10^9 bytes: of each GPU, or of the process on a CPU; 0
        for all of a GPU, or 0.8 of what is free on a CPU.
      num_buckets: how many buckets are tried, the longest and some of the others.

    Returns:
      0.

    Raises:
      hyperparams.ConfigError: if the params do not fit, or nothing does.
    """
    console.SetUpLogging()
    if num_buckets < 1 or limit_gb < 0:
        raise hyperparams.ConfigError(
            f'tune-batch: --buckets must be at least 1 and --limit at least 0, got {num_buckets} '
            f'and {limit_gb:g}.'
        )
    found = []
    with _Worker((model, source, device, num_buckets, limit_gb)) as worker:
        about = worker.Start()
        _log.info('%s on %s, at most %s.', model, about.device, _Limit(about.limit))
        for number in range(len(about.buckets)):
            found.append(_Tune(worker, about, number))
    _Write(out, about, found)
    return 0


def _Tune(worker: _Worker, about: _About, number: int) -> Tuned:
    """Finds the most rows of the bucket of this number."""
    bucket = about.buckets[number]
    peaks: dict[int, Optional[int]] = {}
    seconds: dict[int, float] = {}

    def Measure(rows: int) -> Optional[int]:
        peaks[rows], seconds[rows] = worker.Step(number, rows)
        peak = peaks[rows]
        shown = 'does not fit' if peak is None else memory_probe.Gigabytes(peak)
        _log.info('bucket %s, %s rows: %s', _Shape(bucket), f'{rows:,}', shown)
        return peak

    rows = LargestRows(Measure, bucket.rows, about.num_examples, about.limit)
    is_all = rows >= about.num_examples
    return Tuned(bucket, rows, peaks.get(rows), seconds.get(rows, 0.0), is_all)


def LargestRows(
    measure: Callable[[int], Optional[int]], start: int, most: int, limit: Optional[int]
) -> int:
    """The most rows that fit, to 5%: by doubling, then by halving the gap.

    Args:
      measure: peak memory in bytes of a step with so many rows; None if it does not fit.
      start: rows to begin with.
      most: rows that there are.
      limit: bytes that a step may use; None if `measure` alone decides.

    Returns:
      0 if one row does not fit; never more than `most`.
    """
    peaks: dict[int, int] = {}
    low, high = 0, most + 1  # low fits, high does not
    rows = min(start, most)
    while True:
        peak = measure(rows)
        if peak is not None and (limit is None or peak <= limit):
            low, peaks[rows] = rows, peak
        else:
            high = rows
        if high - low <= max(1, int(_FINE * low)):
            return low
        if high > most and low:
            rows = min(2 * low, most)
        else:
            rows = (low + high) // 2
        if limit is not None and low:
            predicted = _Predicted(peaks, limit)
            if predicted - low <= max(1, int(_FINE * low)):
                return low
            rows = min(rows, predicted)


def _Predicted(peaks: dict[int, int], limit: int) -> int:
    """Rows that reach the limit, on the line through the two largest measurements."""
    if len(peaks) < 2:
        return 2**62
    (first, least), (second, peak) = sorted(peaks.items())[-2:]
    slope = (peak - least) / (second - first)
    return 2**62 if slope <= 0 else int(second + 0.98 * (limit - peak) / slope)


class _About(NamedTuple):
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


class _Worker:
    """A process that takes steps; a new one is started when it dies of one."""

    def __init__(self, request: tuple[Any, ...]):
        self._request = request
        self._process: Any = None
        self._pipe: Any = None

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *error: Any) -> None:
        self._End()

    def Start(self) -> _About:
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
        self.about = _About(
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


def _Write(out: TextIO, about: _About, found: Sequence[Tuned]) -> None:
    import rich.console
    import rich.table

    unit = 'frames' if about.side_names[0] == 'frames' else 'tokens'
    table = rich.table.Table(box=None, pad_edge=False)
    table.add_column(f'bucket ({" x ".join(about.side_names)})')
    for name in ('rows now', f'{unit} now', 'rows that fit', unit, 'memory', f'{unit}/s'):
        table.add_column(name, justify='right')
    for each in found:
        now, fit = (rows * sum(each.bucket.padded) for rows in (each.bucket.rows, each.rows))
        table.add_row(
            _Shape(each.bucket),
            f'{each.bucket.rows:,}',
            f'{now:,}',
            f'{each.rows:,}' + (' (all)' if each.is_all else ''),
            f'{fit:,}',
            '-' if each.peak is None else memory_probe.Gigabytes(each.peak),
            f'{fit / each.seconds:,.0f}' if each.seconds else '-',
        )
    rich.console.Console(file=out, width=120).print(table)
    out.write(Advice(about.keys, found))
    out.flush()


def Advice(keys: dict[str, int], found: Sequence[Tuned]) -> str:
    """The lines to use, with 5% of headroom where more than one row fits.

    Args:
      keys: {param of the input that limits a batch: its value}.
      found: of each bucket.
    """
    none = [each for each in found if not each.rows]
    if none:
        return (
            f'Not one row of bucket {_Shape(none[0].bucket)} fits: train on shorter examples, or '
            'make the model smaller.\n'
        )
    full = [each for each in found if not each.is_all]
    if not full:
        return 'A batch of all examples fits: memory is no limit.\n'
    rows = math.floor(_HEADROOM * min(each.rows for each in full))
    tokens = math.floor(_HEADROOM * min(each.rows * sum(each.bucket.padded) for each in full))
    # What is longer than a whole batch is not trained on.
    tokens = max(tokens, *(sum(each.bucket.padded) for each in found))
    best = {'tokens_per_batch': tokens, 'batch_size': max(1, rows)}
    return ''.join(f'--set=input.{key}={best[key.rpartition(".")[2]]}\n' for key in keys)


def _Shape(bucket: Bucket) -> str:
    return ' x '.join(map(str, bucket.padded))


def _Limit(limit: Optional[int]) -> str:
    return 'all memory of the device' if limit is None else memory_probe.Gigabytes(limit)
