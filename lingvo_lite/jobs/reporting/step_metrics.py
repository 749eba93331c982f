"""The numbers of the steps between two lines of metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from lingvo_lite.jobs.reporting import console
from lingvo_lite.metrics import mean


class Interval:
    """Collects steps; nothing is fetched from the device until `Summary`."""

    def __init__(self) -> None:
        self._results: list[Any] = []
        self._begin = time.perf_counter()
        self._paused = 0.0
        self._tokens = 0
        self._examples = 0
        self._waits: list[float] = []
        self._epoch = 0
        self._num_bad = 0

    def __len__(self) -> int:
        return len(self._results)

    def Add(self, result: Any, batch: Any) -> None:
        """Notes a step.

        Args:
          result: of Learner.TrainStep.
          batch: the pipeline.Batch that it was made with.
        """
        self._results.append(result)
        self._tokens += batch.num_tokens
        self._examples += batch.num_examples
        self._waits.append(batch.wait_s)
        self._epoch = batch.epoch
        self._num_bad = batch.num_bad

    def Pause(self, seconds: float) -> None:
        """Takes the time of an evaluation out of the speeds."""
        self._paused += seconds

    def Summary(self) -> dict[str, Any]:
        """{metric: number} for metrics.jsonl: means over the steps, and where they got to."""
        steps = [result.Read() for result in self._results]
        last = steps[-1]
        fine = [step for step in steps if step.finite]
        values: dict[str, Any] = {'loss': _Mean([step.loss for step in fine])}
        if set(last.terms) != {'loss'}:
            for name in last.terms:
                values[f'terms/{name}'] = _Mean([step.terms[name] for step in fine])
        for name in last.metrics:
            merged = mean.Mean(name)
            for step in fine:
                merged.Update(*step.metrics[name])
            values[name] = merged.value if merged.weight else math.nan
        values['grad_norm'] = _Mean([step.grad_norm for step in fine])
        if isinstance(last.learning_rate, dict):
            for name, rate in last.learning_rate.items():
                values[f'learning_rate/{name}'] = rate
        else:
            values['learning_rate'] = last.learning_rate
        for name in ('regularization', 'loss_scale'):
            if name in last:
                values[name] = last[name]
        if self._num_bad:
            values['bad_records'] = self._num_bad
        seconds = max(time.perf_counter() - self._begin - self._paused, 1e-9)
        wait = sum(self._waits)
        values.update(
            updates=last.updates,
            skipped=last.skipped,
            epoch=self._epoch,
            steps_per_second=len(steps) / seconds,
            examples_per_second=self._examples / seconds,
            tokens_per_second=self._tokens / seconds,
            input_wait_ms=1000 * wait / len(steps),
            input_wait_ms_max=1000 * max(self._waits),
            input_wait_share=min(1.0, wait / seconds),
        )
        return values


def Line(step: int, end: int, values: dict[str, Any]) -> str:
    """A summary as a line for people.

    Args:
      step: that was done.
      end: the last one; 0 if that is not known.
      values: of `Interval.Summary`.
    """
    of = f'/{end:,}' if end else ''
    rate = values.get('learning_rate')
    parts = [
        f'step {step:,}{of}',
        f'loss {values["loss"]:.4f}',
        f'grad norm {values["grad_norm"]:.3g}',
        f'lr {rate:.3g}' if rate is not None else '',
        f'loss scale {values["loss_scale"]:g}' if 'loss_scale' in values else '',
        f'{values["skipped"]} skipped' if values['skipped'] else '',
        f'{values["bad_records"]:,} bad records' if 'bad_records' in values else '',
        f'{values["steps_per_second"]:.2f} steps/s',
        f'{values["tokens_per_second"]:,.0f} tokens/s',
        f'input wait {values["input_wait_ms"]:.1f} ms ({100 * values["input_wait_share"]:.0f}%)',
    ]
    if end:
        left = (end - step) / values['steps_per_second']
        parts.append(f'{console.Duration(left)} left')
    return '  '.join(part for part in parts if part)


def _Mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
