"""When training ends.

The decision is a function of the step and of what was scored up to it, so that a run that was
killed and goes on decides the same.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Optional

from lingvo_lite.runs import metrics_log, rundir

_log = logging.getLogger(__name__)


class Ending:
    """Says why training is over, if it is."""

    def __init__(self, run: rundir.RunDir, params: Any):
        """Takes `task` Params, with what `best_metric.Resolve` has decided."""
        self._train = params.train
        self._eval = params.eval
        self.folder, _, self._metric = params.eval.best_metric.partition('/')
        self._log_path = os.path.join(run.path, self.folder, 'metrics.jsonl')

    def BySteps(self, step: int) -> Optional[str]:
        """The reason, if `step` is the last step."""
        if step >= self._train.max_steps:
            return f'task.train.max_steps={self._train.max_steps} is reached'
        return None

    def ByEpochs(self, epoch: int) -> Optional[str]:
        """The reason, if no batch of this epoch is to be trained on."""
        if self._train.max_epochs and epoch >= self._train.max_epochs:
            return f'task.train.max_epochs={self._train.max_epochs} is reached'
        return None

    def ByScores(self, step: int) -> Optional[str]:
        """The reason, if the best score up to `step` is too long ago."""
        window = self._train.early_stop_window
        if not window:
            return None
        best = self.Best(step)
        if best is None or step - best[0] < window:
            return None
        return (
            f'{self._eval.best_metric} was best at step {best[0]} ({best[1]:.4g}) and has not '
            f'improved for task.train.early_stop_window={window} steps'
        )

    def Best(self, step: int) -> Optional[tuple[int, float]]:
        """(step, value) of the best score up to `step`; a tie goes to the earlier one."""
        sign = -1.0 if self._eval.best_mode == 'max' else 1.0
        found = [
            (sign * float(line[self._metric]), line['step'])
            for line in metrics_log.Read(self._log_path)
            if line['step'] <= step and isinstance(line.get(self._metric), (int, float))
        ]
        # A score that is not a number is never the best.
        found = [each for each in found if each[0] == each[0]]
        if not found:
            return None
        value, at = min(found)
        return at, sign * value

    def Scored(self) -> set[int]:
        """The steps that the job of best_metric is done with."""
        return metrics_log.Steps(self._log_path)
