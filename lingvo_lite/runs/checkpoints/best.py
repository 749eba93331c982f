"""best/: the checkpoints with the best value of a metric, and score.json."""

from __future__ import annotations

import json
import logging
import math
import os
from typing import Any, Optional

from lingvo_lite.runs import atomic
from lingvo_lite.runs.checkpoints import files

_log = logging.getLogger(__name__)


class Best:
    """Keeps the best checkpoints in a folder. One job at a time offers to it.

    score.json is written after the files that it names and before the files that it no longer
    names are deleted:

        {"metric": "bleu", "maximize": true, "best": [{"step": 4000, "value": 38.1}, ...]}
    """

    def __init__(self, folder: str, metric: str, maximize: bool, keep: int = 1):
        """Goes on from what score.json says; starts again if it is about another metric."""
        if keep < 1:
            raise ValueError(f'At least 1 best checkpoint must be kept, got keep={keep}.')
        self._folder = folder
        self._keep = keep
        self._header = {'metric': metric, 'maximize': maximize}
        os.makedirs(folder, exist_ok=True)
        files.CleanUp(folder)
        state = _ReadState(folder)
        self._scores: list[dict[str, Any]] = state.get('best', [])
        if state and {key: state.get(key) for key in self._header} != self._header:
            _log.warning(
                '%s held the best by %s; starting again with %s.',
                *(folder, state.get('metric'), metric),
            )
            self._scores = []
        there = {checkpoint.step for checkpoint in files.List(folder)}
        self._scores = [score for score in self._scores if score['step'] in there]

    def Offer(self, prefix: str, step: int, value: float) -> bool:
        """Takes a checkpoint in if its value is among the best; a tie goes to the earlier step.

        Offering one again does no harm: call this *before* the score is committed anywhere, so
        that a job killed in between offers it again.

        Args:
          prefix: the checkpoint, which the caller's folder holds.
          step: its step.
          value: its score; one that is not finite is never the best.

        Returns:
          Whether it is the best one now.

        Raises:
          FileNotFoundError: if there is no such checkpoint.
        """
        value = float(value)
        if not math.isfinite(value):
            return False
        scores = [score for score in self._scores if score['step'] != step]
        scores.append({'step': int(step), 'value': value})
        sign = -1.0 if self._header['maximize'] else 1.0
        scores.sort(key=lambda score: (sign * score['value'], score['step']))
        scores = scores[: self._keep]
        if any(score['step'] == step for score in scores):
            files.LinkOrCopy(prefix, self._folder)
        atomic.WriteJson(os.path.join(self._folder, 'score.json'), {**self._header, 'best': scores})
        self._scores = scores
        kept = {score['step'] for score in scores}
        for checkpoint in files.List(self._folder):
            if checkpoint.step not in kept:
                files.Delete(checkpoint.prefix)
        return scores[0]['step'] == step

    @property
    def value(self) -> Optional[float]:
        """The best value so far; None before the first."""
        return self._scores[0]['value'] if self._scores else None

    @property
    def step(self) -> Optional[int]:
        """The step of the best value; None before the first."""
        return self._scores[0]['step'] if self._scores else None


def ListBest(folder: str) -> list[files.Checkpoint]:
    """The checkpoints that score.json names, best first; [] if there is none."""
    there = {checkpoint.step: checkpoint for checkpoint in files.List(folder)}
    steps = [score['step'] for score in _ReadState(folder).get('best', [])]
    return [there[step] for step in steps if step in there]


def _ReadState(folder: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, 'score.json'), encoding='utf-8') as file:
            return json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ValueError(
            f'{folder}/score.json is no JSON. Remove the folder to start again.'
        ) from None
