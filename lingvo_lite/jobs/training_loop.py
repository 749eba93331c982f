"""The training loop: from where a run stands to its end, saving, scoring and reporting."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import Any, Optional

from lingvo_lite import hyperparams
from lingvo_lite.inputs import feed as feed_lib
from lingvo_lite.jobs import restore, stop_criteria
from lingvo_lite.jobs.devices import memory_probe, runtime, worker_agreement
from lingvo_lite.jobs.faults import signals, watchdog
from lingvo_lite.jobs.reporting import console, profiler as profiler_lib, step_metrics, tensorboard
from lingvo_lite.jobs.scoring import trainer_scores
from lingvo_lite.runs import locks, metrics_log, rundir, vocabulary
from lingvo_lite.runs.checkpoints import init_from, saver
from lingvo_lite.training import learner
from lingvo_lite.training.debugging import first_bad_layer

_log = logging.getLogger(__name__)


class TrainingLoop:
    """A run at work.

    Attributes:
      position: where it begins.
      scores: what it evaluates and decodes itself.
      data_files: names of those that decoding needs.
    """

    def __init__(
        self,
        run: rundir.RunDir,
        params: Any,
        devices: runtime.Runtime,
        end: stop_criteria.Ending,
        stop: signals.StopRequest,
        dog: watchdog.Watchdog,
        lock: Optional[locks.JobLock],
        words: vocabulary.Vocabulary,
    ):
        """Builds the task and restores it, or starts it.

        Args:
          run: the log directory.
          params: the root Params.
          devices: to train on.
          end: knows when it is enough.
          stop: set when it is asked to stop.
          dog: is told about each step.
          lock: of the trainer's folder, which the chief holds.
          words: what the ids of the input mean.
        """
        self._run = run
        self._lock = lock
        self._params = params
        self._train = params.task.train
        self._eval = params.task.eval
        self._devices = devices
        self._end = end
        self._stop = stop
        self._dog = dog
        with devices.strategy.scope():
            self._task = params.task.Instantiate()
        has_checkpoint = restore.HasCheckpoint(run)
        if self._train.init_from and not has_checkpoint:
            task = self._task
            init_from.Load(self._train, task.AllVariables(), task.TokenAxes(), words)
        # Behind init_from: moving averages start at the values that the variables have.
        self._learner = learner.Learner(self._task, devices.strategy)
        restored = restore.Restore(run, self._learner, devices.is_chief)
        self.position = restored or restore.Position(0, None)
        self.data_files = self._task.DataFiles()
        self._reached = self.position
        self._saved = self.position.step if restored else -1
        self._saver: Any = None
        self.scores = trainer_scores.TrainerScores(
            run,
            self._task,
            devices,
            self._learner.Substitutes() or None,
            self.position.step,
            stop.event,
            dog.Beat,
        )
        if devices.is_chief:
            self._OpenLogs()

    def Run(self, inputs: Any, profile_steps: Optional[tuple[int, int]] = None) -> bool:
        """Trains from `position` to the end, or until asked to stop.

        Args:
          inputs: the training input.
          profile_steps: see `trainer.Run`.

        Returns:
          Whether the training is over.
        """
        step, state = self.position
        reason = self._FirstReason(step)
        if reason is None and self._devices.is_chief:
            self._run.ClearFinished()
        last_step = self._train.max_steps if not self._train.max_epochs else None
        with contextlib.ExitStack() as stack:
            stack.callback(self._Close)
            progress = stack.enter_context(console.Progress(step, last_step, _log))
            if reason is None:
                feed = stack.enter_context(self._Feed(inputs, state))
                profiler = profiler_lib.Profiler(self._run.train, profile_steps)
                stack.callback(profiler.Close)
                memory_probe.TryLargest(self._learner, self._params, inputs, self._devices)
                step, state, reason = self._Loop(feed, step, state, progress, profiler)
            if state is not None:
                self._Save(step, state)
                self.scores.Score(step, self._WaitForSaver, final=True)
            self._WaitForSaver()
            finished = reason is not None and not self.scores.Owes(step)
            if self._devices.is_chief:
                if finished:
                    self._run.MarkFinished(step)
                    _log.info('Finished at step %d: %s.', step, reason)
                else:
                    _log.info('Stopped at step %d; everything is saved.', step)
            # Nobody leaves before the chief has saved: if it is killed, all have to start again.
            worker_agreement.OnAny(self._devices, False)
        return finished

    def _Feed(self, inputs: Any, state: Any) -> Any:
        try:
            return inputs.Batches(
                num_workers=self._devices.num_workers,
                worker=self._devices.worker,
                replicas=self._devices.replicas,
                start=state,
            )
        except ValueError as error:  # the data are not those that the run began with
            raise hyperparams.ConfigError(f'{self._run.path}: {error}') from error

    def _FirstReason(self, step: int) -> Optional[str]:
        """Scores what a killed trainer left to be scored; why not to train at all, if so."""
        if self._saved == step and step and step % self._train.save_interval_steps == 0:
            self.scores.Score(step, self._WaitForSaver)
        return self._end.BySteps(step) or self._NoLongerImproves(step)

    def _Loop(
        self,
        feed: Any,
        step: int,
        state: Any,
        progress: console.Progress,
        profiler: profiler_lib.Profiler,
    ) -> tuple[int, Any, Optional[str]]:
        """Trains; returns (steps done, input state, reason to end or None if asked to stop)."""
        train = self._train
        reason: Optional[str] = None
        numbers = step_metrics.Interval()
        # Looking at a step waits for the device, so not every step is looked at.
        check_every = min(train.summary_interval_steps, self._learner.check_every)
        for batch in self._Fed(feed):
            reason = self._end.ByEpochs(batch.epoch)
            if reason is not None:
                break
            with profiler.Step(step + 1), memory_probe.Explained(self._params, batch.replicas):
                result = self._learner.TrainStep(batch.replicas)
            self._dog.Beat()
            step += 1
            state = batch.state
            self._reached = restore.Position(step, state)
            profiler.After(step, result)
            numbers.Add(result, batch)
            progress.Step(step)
            if self._saver is not None:
                self._saver.Check()
            if step % check_every == 0:
                self._CheckFinite(result, batch)
            if step % train.summary_interval_steps == 0:
                self._Report(step, numbers, progress)
                numbers = step_metrics.Interval()
            reason = self._end.BySteps(step)
            if step % train.save_interval_steps == 0:
                self._Save(step, state)
                begin = time.perf_counter()
                self.scores.Score(step, self._WaitForSaver)
                numbers.Pause(time.perf_counter() - begin)
                reason = reason or self._NoLongerImproves(step)
            if reason is not None or self._AskedToStop(step, check_every):
                break
        if len(numbers):
            self._CheckFinite(result, batch)
            self._Report(step, numbers, progress)
        return step, state, reason

    def _Fed(self, feed: Any) -> Iterator[feed_lib.Batch]:
        """The batches of `feed`; if it fails, what was learnt is saved first."""
        while True:
            try:
                batch = next(feed, None)
            except Exception:
                step, state = self._reached
                if state is not None and self._saver is not None:
                    self._Save(step, state)
                    self._WaitForSaver()
                    _log.info('The input failed; everything up to step %d is saved.', step)
                raise
            if batch is None:
                return
            yield batch

    def _CheckFinite(self, result: Any, batch: Any) -> None:
        if self._learner.MustStop(result.Read()):
            self._WaitForSaver()
            raise first_bad_layer.Diagnose(
                self._learner, batch.replicas, result, self._run.train, self._devices.worker
            )

    def _AskedToStop(self, step: int, every: int) -> bool:
        """Whether to stop; on several workers asked every few steps only."""
        if self._devices.num_workers > 1:
            if step % every or not worker_agreement.OnAny(self._devices, self._stop.event.is_set()):
                return False
            self._stop.Set()
        return self._stop.event.is_set()

    def _NoLongerImproves(self, step: int) -> Optional[str]:
        """The chief's reason to end by scores, if it has one; the other workers believe it."""
        reason = self._end.ByScores(step) if self._devices.is_chief else None
        if worker_agreement.OnAny(self._devices, reason is not None):
            return reason or 'the chief says so'
        return reason

    def _Report(
        self, step: int, numbers: step_metrics.Interval, progress: console.Progress
    ) -> None:
        values = numbers.Summary()
        if self._lock is None:
            return
        self._lock.Check()
        self._metrics.Append(step, values)
        self._events.Scalars(step, values)
        self._events.Flush()
        end = 0 if self._train.max_epochs else self._train.max_steps
        line = step_metrics.Line(step, end, values)
        progress.Report(step, line, values['loss'], values['tokens_per_second'])

    def _Save(self, step: int, state: dict[str, Any]) -> None:
        if step != self._saved and self._saver is not None and self._lock is not None:
            self._lock.Check()
            self._saver.Save(step, restore.ToSave(self._learner, state))
        self._saved = step

    def _WaitForSaver(self) -> None:
        if self._saver is not None:
            self._saver.Wait()

    def _OpenLogs(self) -> None:
        run, step = self._run, self.position.step
        self._metrics = metrics_log.MetricsLog(os.path.join(run.train, 'metrics.jsonl'))
        removed = self._metrics.CutBackTo(step)
        if removed:
            _log.info('%d lines of metrics behind step %d are dropped.', removed, step)
        self._events = tensorboard.EventFile(run.train, purge_step=step + 1)
        keep = saver.KeepPolicy(
            last=self._train.save_max_to_keep,
            every_n_hours=self._train.save_keep_checkpoint_every_n_hours,
            protect=self._Unscored if self._eval.all_checkpoints else None,
        )
        self._saver = saver.AsyncSaver(run.train, keep)

    def _Unscored(self, steps: list[int]) -> set[int]:
        """The checkpoints that the job of best_metric has still to score."""
        return set(steps) - self._end.Scored()

    def _Close(self) -> None:
        if self._devices.is_chief:
            self._events.Close()
            self.scores.Close()
