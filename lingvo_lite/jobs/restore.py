"""Where a trainer goes on from: its newest checkpoint, another run's weights, or the beginning."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from lingvo_lite.runs import rundir
from lingvo_lite.runs.checkpoints import files, tensors

_log = logging.getLogger(__name__)
INPUT_STATE = '.input_state'


class Position(NamedTuple):
    """Where training stands.

    Attributes:
      step: steps done.
      input_state: of the last batch trained on; None before the first.
    """

    step: int
    input_state: Optional[dict[str, Any]]


def HasCheckpoint(run: rundir.RunDir) -> bool:
    """Whether the run has anything to go on from."""
    return files.Latest(run.train) is not None


def PrefixOf(run: rundir.RunDir, step: int) -> str:
    """The checkpoint that the trainer writes at a step."""
    return files.PrefixOf(run.train, step)


def Restore(run: rundir.RunDir, learner: Any, is_chief: bool) -> Optional[Position]:
    """Restores the learner from the newest checkpoint of the run that is whole.

    Args:
      run: the log directory.
      learner: training.learner.Learner; all of its State is assigned.
      is_chief: whether damaged checkpoints are to be set aside.

    Returns:
      None if the run has no checkpoint.

    Raises:
      tensors.MismatchError: with a table, if the checkpoint is of another model.
      tensors.CorruptError: if there are checkpoints but none can be read.
    """
    state = learner.State()
    found = tensors.RestoreNewest(
        run.train, lambda prefix: _FromPrefix(prefix, state), set_aside=is_chief
    )
    if found is None:
        return None
    checkpoint, input_state = found
    _log.info('Going on from %s.', checkpoint.prefix)
    return Position(checkpoint.step, input_state)


def RestoreUpTo(run: rundir.RunDir, learner: Any, step: int) -> Position:
    """Restores the learner from the newest whole checkpoint with no more than so many steps.

    Args:
      run: the log directory; nothing in it is changed.
      learner: as it was before its first step; it stays so if there is no such checkpoint.
      step: the largest number of steps done.

    Raises:
      tensors.MismatchError: with a table, if the checkpoint is of another model.
      tensors.CorruptError: if there are such checkpoints but none can be read.
    """
    state = learner.State()
    damaged = None
    for checkpoint in reversed(files.List(run.train)):
        if checkpoint.step > step:
            continue
        try:
            input_state = _FromPrefix(checkpoint.prefix, state)
        except tensors.CorruptError as error:
            _log.warning('%s Trying the one before it.', error)
            damaged = error
            continue
        return Position(checkpoint.step, input_state)
    if damaged is not None:  # a part of its values may have been assigned
        raise damaged
    return Position(0, None)


def ToSave(learner: Any, input_state: dict[str, Any]) -> dict[str, Any]:
    """All that `Restore` needs, for a checkpoint."""
    text = json.dumps(input_state, sort_keys=True).encode('utf-8')
    return {**learner.State(), INPUT_STATE: text}


def _FromPrefix(prefix: str, state: Mapping[str, tf.Variable]) -> dict[str, Any]:
    """Assigns the state; returns that of the input."""
    tensors.RestoreInto(prefix, state)
    text = tensors.Restore(prefix, [INPUT_STATE])[INPUT_STATE]
    try:
        found = json.loads(text.decode('utf-8'))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise tensors.CorruptError(prefix, f'{INPUT_STATE} is no position in an input')
    return found
