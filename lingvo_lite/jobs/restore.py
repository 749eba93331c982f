"""Where a trainer goes on from: its newest checkpoint, another run's weights, or the beginning."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple, Optional

from lingvo_lite.runs import checkpoint_files, checkpoints, rundir

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
    return checkpoint_files.Latest(run.train) is not None


def PrefixOf(run: rundir.RunDir, step: int) -> str:
    """The checkpoint that the trainer writes at a step."""
    return checkpoint_files.PrefixOf(run.train, step)


def Restore(run: rundir.RunDir, learner: Any, is_chief: bool) -> Optional[Position]:
    """Restores the learner from the newest checkpoint of the run that is whole.

    Args:
      run: the log directory.
      learner: training.learner.Learner; all of its State is assigned.
      is_chief: whether damaged checkpoints are to be set aside.

    Returns:
      None if the run has no checkpoint.

    Raises:
      checkpoints.MismatchError: with a table, if the checkpoint is of another model.
      checkpoints.CorruptError: if there are checkpoints but none can be read.
    """
    state = learner.State()

    def FromPrefix(prefix: str) -> dict[str, Any]:
        checkpoints.RestoreInto(prefix, state)
        text = checkpoints.Restore(prefix, [INPUT_STATE])[INPUT_STATE]
        return json.loads(text.decode('utf-8'))

    found = checkpoints.RestoreNewest(run.train, FromPrefix, set_aside=is_chief)
    if found is None:
        return None
    checkpoint, input_state = found
    _log.info('Going on from %s.', checkpoint.prefix)
    return Position(checkpoint.step, input_state)


def ToSave(learner: Any, input_state: dict[str, Any]) -> dict[str, Any]:
    """All that `Restore` needs, for a checkpoint."""
    text = json.dumps(input_state, sort_keys=True).encode('utf-8')
    return {**learner.State(), INPUT_STATE: text}
