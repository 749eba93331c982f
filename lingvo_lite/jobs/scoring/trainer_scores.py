"""trainer --eval: datasets that are evaluated and decoded in the trainer's own process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

from lingvo_lite.jobs import restore
from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.scoring import decoding_pass, evaluation_pass, score_folder, weights
from lingvo_lite.runs import rundir


class TrainerScores:
    """The datasets of --eval, and the folders of their scores."""

    def __init__(
        self,
        run: rundir.RunDir,
        task: Any,
        devices: runtime.Runtime,
        substitutes: Any,
        step: int,
        stop: threading.Event,
        beat: Callable[[], None],
    ):
        """Scores nothing until a dataset is added.

        Args:
          run: the log directory.
          task: that is trained.
          devices: to compute on.
          substitutes: of `Learner.Substitutes`.
          step: at which the trainer begins; scores of later ones are forgotten.
          stop: set when the trainer is asked to stop; the pass at work is given up then.
          beat: called each batch.
        """
        self._run = run
        self._task = task
        self._devices = devices
        self._substitutes = substitutes
        self._step = step
        self._stop = stop
        self._beat = beat
        self._eval = task.params.eval
        self._locks = contextlib.ExitStack()
        self._scorings: list[tuple[Any, score_folder.Results]] = []

    def Add(self, dataset: str, params: Any, inputs: Any) -> None:
        """Makes a dataset be evaluated and, if the task can, decoded.

        Args:
          dataset: its name.
          params: the root Params with its input.
          inputs: the input.
        """
        passes: list[Any] = [evaluation_pass.EvaluationPass]
        if decoding_pass.CanDecode(self._task):
            passes.append(decoding_pass.DecodingPass)
        for make_pass in passes:
            folder = self._run.Folder(make_pass.job, dataset)
            self._locks.enter_context(self._run.Lock(folder, 'trainer'))
            score_folder.WriteParams(folder, params, weights.Choice().Describe(self._run))
            kept = score_folder.Results(folder, self._run, self._eval, self._step + 1)
            kept.CutBackTo(self._step)
            scorer = make_pass(self._task, self._devices, inputs, self._substitutes)
            self._scorings.append((scorer, kept))

    def Writes(self, folder: str) -> bool:
        """Whether a folder of the run is one of these."""
        return any(os.path.basename(kept.folder) == folder for _, kept in self._scorings)

    def Score(self, step: int, before_commit: Callable[[], None], final: bool = False) -> None:
        """Evaluates and decodes at a step, unless that is done or not due.

        Args:
          step: that is saved, or about to be.
          before_commit: called before scores are written; afterwards the checkpoint is there.
          final: whether it is due whatever `task.eval.interval_steps` says.
        """
        every = self._eval.interval_steps
        if every and step % every and not final:
            return
        for scorer, kept in self._scorings:
            if step in kept.Steps() or self._stop.is_set():
                continue
            passed = scorer.Run(self._stop, self._beat)
            if passed is not None:
                before_commit()
                kept.Commit(step, restore.PrefixOf(self._run, step), passed)

    def Owes(self, step: int) -> bool:
        """Whether a score of the step was given up when the trainer was asked to stop."""
        return self._stop.is_set() and any(step not in kept.Steps() for _, kept in self._scorings)

    def Close(self) -> None:
        """Closes the folders and gives their locks back."""
        for _, kept in self._scorings:
            kept.Close()
        self._locks.close()
