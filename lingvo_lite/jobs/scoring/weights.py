"""Which weights a job scores: one checkpoint, the average of several, or an ensemble."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.runs import rundir
from lingvo_lite.runs.checkpoints import average, lookup, tensors


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the flags ask for; none of it means every checkpoint of the run, the newest first.

    Attributes:
      checkpoints: of --checkpoint; several are an ensemble.
      average_last: of --average_last; 0 for no average.
      average_best: of --average_best; 0 for no average.
      once: whether to score one checkpoint and exit.
    """

    checkpoints: Sequence[str] = ()
    average_last: int = 0
    average_best: int = 0
    once: bool = False

    def __post_init__(self) -> None:
        given = [
            flag
            for flag, value in (
                ('--checkpoint', self.checkpoints),
                ('--average_last', self.average_last),
                ('--average_best', self.average_best),
            )
            if value
        ]
        if len(given) > 1:
            raise hyperparams.ConfigError(f'{" and ".join(given)} exclude each other.')

    @property
    def follows(self) -> bool:
        """Whether every checkpoint of the run is scored as it comes."""
        return not (self.checkpoints or self.average_last or self.average_best or self.once)

    @property
    def averages(self) -> int:
        """How many checkpoints to average; 0 for no average."""
        return self.average_last or self.average_best

    def Label(self, run: rundir.RunDir) -> str:
        """What to add to the name of the results' folder; '' for the run's own checkpoints."""
        if self.average_last:
            return f'average_last_{self.average_last}'
        if self.average_best:
            return f'average_best_{self.average_best}'
        if len(self.checkpoints) > 1:
            return f'ensemble_{len(self.checkpoints)}'
        if self.checkpoints:
            inside = os.path.join(os.path.realpath(run.path), '')
            if not os.path.realpath(self.checkpoints[0]).startswith(inside):
                return 'checkpoint'
        return ''

    def Describe(self, run: rundir.RunDir) -> str:
        """What results in such a folder are the scores of."""
        label = self.Label(run)
        if not label:
            return 'checkpoints of the run'
        if self.checkpoints:
            return f'{label}: {", ".join(os.path.realpath(path) for path in self.checkpoints)}'
        return label.replace('_', ' ')

    def Prefixes(self, run: rundir.RunDir) -> list[str]:
        """The checkpoints to take at this moment; their order is of no importance.

        Raises:
          FileNotFoundError: if there are not as many as asked for.
        """
        if self.checkpoints:
            return [lookup.Resolve(path) for path in self.checkpoints]
        if self.average_last:
            return lookup.Last(run.train, self.average_last)
        if self.average_best:
            return lookup.Best(run.best, self.average_best)
        return lookup.Last(run.train, 1)


def StepOf(prefix: str) -> int:
    """The training step of a checkpoint."""
    return int(tensors.Restore(prefix, ['.step'])['.step'])


def Restore(prefix: str, variables: Mapping[str, tf.Variable]) -> bool:
    """Assigns a checkpoint's weights to the variables of a task; moving averages where it has any.

    Returns:
      Whether it has moving averages.

    Raises:
      tensors.MismatchError: with a table, if it is of another model.
      tensors.CorruptError: if it cannot be read.
    """
    there = tensors.Contents(prefix)
    names = {
        tensors.EmaOf(path) if tensors.EmaOf(path) in there else path: variable
        for path, variable in variables.items()
    }
    tensors.RestoreInto(prefix, names)
    return any(name not in variables for name in names)


def RestoreAverage(prefixes: Sequence[str], variables: Mapping[str, tf.Variable]) -> int:
    """Assigns the average of checkpoints; returns the step of the newest of them."""
    averaged: dict[str, Any] = average.Average(prefixes)
    missing = [path for path in variables if path not in averaged]
    if missing:
        raise tensors.MismatchError(f'{prefixes[0]} has no {", ".join(missing)}.')
    for path, variable in variables.items():
        variable.assign(averaged.get(tensors.EmaOf(path), averaged[path]))
    return int(averaged['.step'])
