"""A run with its jobs, ready to be harmed."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from lingvo_lite.tools import launch_local

from . import processes

_SAVE_EVERY = 10
_STEP_LINE = re.compile(r'^\S+ step [\d,]+/', re.MULTILINE)


class Family(NamedTuple):
    """What a run trains.

    Attributes:
      name: for the command line.
      experiment: class in `experiments`.
      workers: of its trainer.
      scorers: the jobs beside it.
      steps: that it trains.
      flags: more of them for the trainer.
    """

    name: str
    experiment: str
    workers: int = 1
    scorers: tuple[str, ...] = ('evaler', 'decoder')
    steps: int = 200
    flags: tuple[str, ...] = ()


FAMILIES = {
    family.name: family
    for family in (
        Family('mt', 'Mt'),
        Family('asr_ctc', 'Ctc'),
        Family('asr_las', 'Las'),
        Family('lm', 'Lm', scorers=('evaler',)),
        Family('mt_2_workers', 'Mt', workers=2),
        Family('mt_eval', 'Mt', scorers=(), flags=('--eval=Dev',)),
    )
}


class Victim:
    """A log directory and the jobs that work in it.

    Attributes:
      path: the log directory.
      family: what is trained.
      jobs: {name: job}, those that were started and have not been found ended.
      damaged: steps whose checkpoints were damaged on purpose, and that no trainer has met yet.
      asked: steps at which the trainer saved because it was asked to stop.
    """

    def __init__(
        self,
        path: str,
        logs: str,
        family: Family,
        keep: int,
        draw: random.Random,
        undisturbed_s: float = 300.0,
    ):
        """Takes a log directory that is not there yet.

        Args:
          path: of it.
          logs: folder for what the jobs write on their terminal.
          family: what to train.
          keep: how many checkpoints to keep.
          draw: for moments and choices.
          undisturbed_s: what the whole run takes; how long is too long is judged by it.
        """
        self.path = path
        self.family = family
        self.draw = draw
        self.jobs: dict[str, processes.Job] = {}
        self.damaged: set[int] = set()
        self.asked: set[int] = set()
        self.watchdog_s = max(5.0, undisturbed_s / 3)
        self._limit_s = max(120.0, 10 * undisturbed_s)
        self._logs = logs
        self._keep = keep
        self._starts = 0
        self._done: set[str] = set()  # that ended with 0

    @property
    def trainers(self) -> list[processes.Job]:
        """The trainer, or the workers of its cluster."""
        return [job for name, job in self.jobs.items() if name.startswith('trainer')]

    @property
    def train(self) -> str:
        """The trainer's folder."""
        return os.path.join(self.path, 'train')

    def Start(self, cold: bool = False, before: Callable[[], None] = lambda: None) -> None:
        """Starts every job that does not run and is not done."""
        workers = self.family.workers
        names = ['trainer'] if workers == 1 else [f'trainer{i}' for i in range(workers)]
        if not self.trainers and 'trainer' not in self._done:
            cluster = launch_local.Cluster(workers) if workers > 1 else [{}]
            for name, environment in zip(names, cluster):
                self._Start(name, self._TrainerFlags(), environment, cold, before)
        for name in self.family.scorers:
            if name not in self.jobs and name not in self._done:
                self._Start(name, ['--dataset=Dev'], {}, False, before)

    def Steps(self) -> bool:
        """Whether the trainer has reported steps since it was started."""
        return bool(self.trainers and _STEP_LINE.search(self.trainers[0].Log()))

    def Saves(self) -> bool:
        """Whether a checkpoint is being written."""
        return any(name.startswith('.tmp-ckpt-') for name in _Names(self.train))

    def Scores(self, name: str) -> bool:
        """Whether an evaler or decoder is at work on a checkpoint."""
        folder = os.path.join(self.path, {'evaler': 'eval_dev', 'decoder': 'decode_dev'}[name])
        return any(file.endswith('.index') for file in _Names(folder))

    def Whole(self) -> list[int]:
        """The steps with a checkpoint that nobody damaged, in order."""
        names = [re.fullmatch(r'ckpt-(\d+)\.index', name) for name in _Names(self.train)]
        return sorted({int(match[1]) for match in names if match} - self.damaged)

    def Reach(self, condition: Callable[[], bool], jobs: Sequence[processes.Job]) -> bool:
        """Waits until a condition holds while jobs run; False if one ends before."""
        return processes.WaitFor(condition, jobs, self._limit_s)

    def Gone(self, job: processes.Job, codes: Sequence[int]) -> None:
        """Waits until a job has ended, in one of these ways.

        Raises:
          processes.Failure: if it does not end, or otherwise.
        """
        self.jobs.pop(job.name, None)
        code = job.Wait(self._limit_s)
        if job.name in ('trainer', 'trainer0') and 'Going on from' in job.Log():
            self.damaged.clear()
        if code == 0 and 0 in codes:  # worker 0 writes the end of a training
            self._done.add(job.name.replace('trainer0', 'trainer'))
        if code not in codes:
            raise processes.Failure(
                f'{job.name} ended with {code}, not {" or ".join(map(str, codes))}: '
                f'{job.LastLine()}'
            )
        if 'Traceback (most recent call last)' in job.Log():
            raise processes.Failure(f'{job.name} showed a stack trace: {job.LastLine()}')

    def Collect(self) -> None:
        """Takes out the jobs that have ended by themselves.

        Raises:
          processes.Failure: if one of them did not end with 0.
        """
        for job in list(self.jobs.values()):
            if job.Code() is not None:
                self.Gone(job, [0])

    def Finish(self) -> None:
        """Starts what is not done, and waits until all is.

        Raises:
          processes.Failure: if a job does not end, or not with 0.
        """
        self.Start()
        for job in list(self.jobs.values()):
            self.Gone(job, [0])

    def BeginAnew(self) -> None:
        """The log directory is gone: nothing is done."""
        self._done.clear()
        self.damaged.clear()
        self.asked.clear()

    def IsDoneBy(self, name: str) -> bool:
        """Whether a job of this name is done; 'trainer' stands for all workers."""
        return name in self._done

    def close(self) -> None:
        """Kills what is left."""
        for job in self.jobs.values():
            job.Kill()

    def _Start(
        self,
        name: str,
        flags: Sequence[str],
        environment: dict[str, str],
        cold: bool,
        before: Callable[[], None],
    ) -> None:
        self._starts += 1
        model = f'lingvo_lite.tools.chaos.experiments.{self.family.experiment}'
        os.makedirs(self._logs, exist_ok=True)
        log = os.path.join(self._logs, f'{self._starts:03d}-{name}.txt')
        arguments = [f'--model={model}', f'--logdir={self.path}', '--threads=1', *flags]
        self.jobs[name] = processes.Job(name, arguments, log, environment, cold, before)

    def _TrainerFlags(self) -> list[str]:
        settings: dict[str, Optional[float]] = {
            'max_steps': self.family.steps,
            'save_interval_steps': _SAVE_EVERY,
            'save_max_to_keep': self._keep,
            'summary_interval_steps': 5,
            'watchdog_seconds': self.watchdog_s,
        }
        return [
            *self.family.flags,
            *(f'--set=task.train.{key}={value}' for key, value in settings.items()),
        ]


def _Names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
