"""A folder of scores, such as RUN/eval_dev: what is in it is true, and there once.

    params.txt  events.*  metrics.jsonl  decoded-00001000.jsonl

A pass over the dataset is committed by its line in metrics.jsonl, written last.
"""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Any, NamedTuple, Optional

import numpy as np

from lingvo_lite import hyperparams, renamed
from lingvo_lite.jobs.reporting import tensorboard
from lingvo_lite.runs import atomic, metrics_log, rundir
from lingvo_lite.runs.checkpoints import best

_log = logging.getLogger(__name__)
_SHOWN = 8
_DECODED = re.compile(r'decoded-(\d+)\.jsonl')


class Sound(NamedTuple):
    """What can be listened to.

    Attributes:
      waveform: float32 [samples], in [-1, 1].
      sample_rate: in hertz.
    """

    waveform: np.ndarray
    sample_rate: int


class Pass(NamedTuple):
    """What one pass over a dataset found.

    Attributes:
      values: {name: number or text}, for metrics.jsonl.
      records: of what was decoded, by id; None from an evaluation.
      pictures: {name: [height, width] of values in [0, 1]}.
      sounds: {name: Sound}.
    """

    values: dict[str, Any]
    records: Optional[list[dict[str, Any]]] = None
    pictures: Optional[dict[str, np.ndarray]] = None
    sounds: Optional[dict[str, Sound]] = None


class Results:
    """One folder of results. Its user holds the folder's lock."""

    def __init__(
        self, folder: str, run: rundir.RunDir, eval_params: Any, purge_step: Optional[int] = None
    ):
        """Opens the folder, dropping a torn last line.

        Args:
          folder: an existing folder in the run.
          run: the run; its best/ belongs to the folder that eval.best_metric names.
          eval_params: `task.eval`.
          purge_step: void events from this step on; None to keep all.
        """
        self.folder = folder
        self._log = metrics_log.MetricsLog(os.path.join(folder, 'metrics.jsonl'))
        self._events = tensorboard.EventFile(folder, purge_step)
        self._best_metric = ''
        where, _, metric = eval_params.best_metric.partition('/')
        self._best: Optional[best.Best] = None
        if os.path.join(run.path, where) == folder:
            self._best_metric = metric
            maximize = eval_params.best_mode == 'max'
            self._best = best.Best(run.best, eval_params.best_metric, maximize)

    def Steps(self) -> set[int]:
        """The steps that are done."""
        return metrics_log.Steps(self._log.path)

    def CutBackTo(self, step: int) -> None:
        """Forgets the scores of later steps, which a restarted trainer will reach again."""
        self._log.CutBackTo(step)
        for name in os.listdir(self.folder):
            match = _DECODED.fullmatch(name)
            if match and int(match[1]) > step:
                os.remove(os.path.join(self.folder, name))

    def Commit(self, step: int, prefix: Optional[str], found: Pass) -> None:
        """Writes what a pass found.

        Args:
          step: of the checkpoint that was scored.
          prefix: where it is, for best/; None if it is no checkpoint (an average).
          found: by the pass.

        Raises:
          hyperparams.ConfigError: if eval.best_metric names a metric that the pass does not have.
        """
        if found.records is not None:
            lines = [json.dumps(record, ensure_ascii=False) + '\n' for record in found.records]
            path = os.path.join(self.folder, f'decoded-{step:08d}.jsonl')
            atomic.Write(path, ''.join(lines))
        self._WriteEvents(step, found)
        if self._best is not None and prefix is not None:
            self._Offer(step, prefix, found.values)
        self._log.Append(step, found.values)
        numbers = [
            f'{name} {value:.4g}' for name, value in found.values.items() if _IsNumber(value)
        ]
        _log.info('%s, step %d: %s', os.path.basename(self.folder), step, ', '.join(numbers))

    def Close(self) -> None:
        """Closes the event file."""
        self._events.Close()

    def _WriteEvents(self, step: int, found: Pass) -> None:
        self._events.Scalars(step, found.values)
        if found.records:
            table = tensorboard.TranslationsTable(_Spread(found.records))
            self._events.Text(step, 'samples', table)
        for name, matrix in (found.pictures or {}).items():
            self._events.Picture(step, name, *tensorboard.Plot(matrix, f'{name}, step {step}'))
        for name, sound in (found.sounds or {}).items():
            self._events.Sound(step, name, *sound)
        self._events.Flush()

    def _Offer(self, step: int, prefix: str, values: dict[str, Any]) -> None:
        if self._best is None:
            return
        if not _IsNumber(values.get(self._best_metric)):
            known = ', '.join(name for name, value in values.items() if _IsNumber(value))
            raise hyperparams.ConfigError(
                f'task.eval.best_metric: {os.path.basename(self.folder)} has no metric '
                f'{self._best_metric!r}. It has: {known}.'
            )
        if self._best.Offer(prefix, step, values[self._best_metric]):
            _log.info('Step %d is the best so far.', step)


def WriteParams(folder: str, params: Any, weights: str) -> None:
    """Writes what the scores in a folder depend on besides the step, into its params.txt.

    Args:
      folder: of the results.
      params: root Params: the task, and the input of the dataset.
      weights: what is scored, in words.
    """
    atomic.Write(os.path.join(folder, 'params.txt'), _DependsOn(params, weights))


def CheckParams(folder: str, params: Any, weights: str) -> None:
    """As `WriteParams`, but all scores in the folder must be of one kind.

    Raises:
      hyperparams.ConfigError: if the folder holds scores made otherwise.
    """
    path = os.path.join(folder, 'params.txt')
    text = _DependsOn(params, weights)
    if not os.path.exists(path):
        atomic.Write(path, text)
        return
    with open(path, encoding='utf-8') as file:
        before = renamed.PresentText(file.read(), path)
    old, new = before.split('\n'), text.split('\n')
    differing = [line for line in new if line not in old] or [
        line for line in old if line not in new
    ]
    if not differing:
        return
    if not metrics_log.Read(os.path.join(folder, 'metrics.jsonl')):
        atomic.Write(path, text)
        return
    raise hyperparams.ConfigError(
        f'{folder} holds scores made with other params; this job has {differing[0].strip()}. '
        'Use --folder=NAME for a folder of their own.'
    )


def _DependsOn(params: Any, weights: str) -> str:
    lines = [f'# weights: {weights}']
    for line in params.ToText().split('\n'):
        if not line.startswith(('model ', 'task.train.', 'task.eval.')) or 'samples_per' in line:
            lines.append(line)
    return '\n'.join(lines)


def _Spread(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few records from all over the dataset, always the same."""
    return records[:: max(1, len(records) // _SHOWN)][:_SHOWN]


def _IsNumber(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
