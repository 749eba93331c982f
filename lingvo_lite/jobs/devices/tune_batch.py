"""lingvo_lite tune-batch MODEL: the largest batch of each bucket that fits into memory.

Steps are taken in a process of its own, which may die of a batch that is too large: the number of
rows is doubled until one does not fit, then the gap is halved. On a GPU the device says what does
not fit. On a CPU it is the limit given, against the measured peak of the process's memory; rows
that would go beyond it, by what was measured so far, are not tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Optional, TextIO

from lingvo_lite import hyperparams
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import batch_advice, memory_probe, runtime, trial_process
from lingvo_lite.jobs.reporting import console

_log = logging.getLogger(__name__)
_FINE = 0.05  # of the rows: the gap at which the search ends


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
    with trial_process.TrialProcess((model, source, device, num_buckets, limit_gb)) as trials:
        about = trials.Start()
        _log.info('%s on %s, at most %s.', model, about.device, _Limit(about.limit))
        for number in range(len(about.buckets)):
            found.append(_Tune(trials, about, number))
    batch_advice.Write(out, about, found)
    return 0


def _Tune(
    trials: trial_process.TrialProcess, about: trial_process.About, number: int
) -> batch_advice.Tuned:
    """Finds the most rows of the bucket of this number."""
    bucket = about.buckets[number]
    peaks: dict[int, Optional[int]] = {}
    seconds: dict[int, float] = {}

    def Measure(rows: int) -> Optional[int]:
        peaks[rows], seconds[rows] = trials.Step(number, rows)
        peak = peaks[rows]
        shown = 'does not fit' if peak is None else memory_probe.Gigabytes(peak)
        _log.info('bucket %s, %s rows: %s', bucket.Shape(), f'{rows:,}', shown)
        return peak

    rows = LargestRows(Measure, bucket.rows, about.num_examples, about.limit)
    is_all = rows >= about.num_examples
    return batch_advice.Tuned(bucket, rows, peaks.get(rows), seconds.get(rows, 0.0), is_all)


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


def _Limit(limit: Optional[int]) -> str:
    return 'all memory of the device' if limit is None else memory_probe.Gigabytes(limit)
