"""What evaler and decoder have in common: find weights, score them, commit, wait for more."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

from lingvo_lite import hyperparams
from lingvo_lite.inputs import run_files
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.faults import lost_resources, signals
from lingvo_lite.jobs.reporting import console
from lingvo_lite.jobs.scoring import score_folder, weights
from lingvo_lite.runs import locks, rundir, vocabulary
from lingvo_lite.runs.checkpoints import files, lookup, tensors, watcher

_log = logging.getLogger(__name__)
_POLL_S = 1.0


class Job(NamedTuple):
    """A job that scores, ready to build its task.

    Attributes:
      run: the log directory.
      params: root Params: the run's task, the dataset's input.
      choice: which weights.
      stop: set by SIGTERM or Ctrl-C.
      lock: of the results' folder.
    """

    run: rundir.RunDir
    params: Any
    choice: weights.Choice
    stop: threading.Event
    lock: locks.JobLock


def Run(
    model: Optional[str],
    logdir: str,
    dataset: str,
    source: job_params.Source,
    device: runtime.Wish,
    choice: weights.Choice,
    make_pass: type[Any],
    folder: Optional[str] = None,
) -> int:
    """Scores a dataset with the weights chosen: the evaler or the decoder.

    Args:
      model: the experiment, which has the dataset; None for that of the run.
      logdir: the run.
      dataset: its name in the experiment.
      source: changes to the params.
      device: what the flags say about devices.
      choice: which weights.
      make_pass: EvaluationPass or DecodingPass.
      folder: name of the results' folder in the run, if not the usual one.

    Returns:
      The exit code.
    """
    console.SetUpLogging()
    run = rundir.RunDir(logdir)
    usual = run.Folder(make_pass.job, dataset)
    if model is not None:  # what is wrong with it must show before the wait for a trainer
        job_params.Experiment(model, source).Dataset(dataset)
    with signals.StopRequest('The pass at work is given up') as stop:
        if not run.WaitForParams(stop.event):
            return stop.exit_code
        cls = job_params.RunsExperiment(model, source, run)
        params = job_params.ForScoring(cls, dataset, source, run)
        job_params.DryBuild(params)
        label = choice.Label(run)
        own = os.path.join(run.path, folder) if folder else f'{usual}_{label}' if label else usual
        lock = run.Lock(own, f'{make_pass.title} {dataset}')
        with lock, lost_resources.LogDirectory(run, own):
            score_folder.CheckParams(own, params, choice.Describe(run))
            run.WriteCommand(sys.argv, own)
            job = Job(run, params, choice, stop.event, lock)
            _Score(make_pass, job, own, device)
    return stop.exit_code


def _Score(make_pass: type[Any], job: Job, own: str, device: runtime.Wish) -> None:
    with run_files.Of(job.run.files):
        _ScoreIn(make_pass, job, own, device)


def _ScoreIn(make_pass: type[Any], job: Job, own: str, device: runtime.Wish) -> None:
    params = job.params
    inputs = job_params.BuildInput(params.input, train=False)
    CheckVocabulary(inputs.Vocabulary(), job.run, job.choice)
    devices = runtime.Start(device, params.task.train.deterministic_ops, single_worker=True)
    _log.info('%s: %s examples, on %s.', own, f'{inputs.NumExamples():,}', devices.description)
    models = 1 if len(job.choice.checkpoints) < 2 else len(job.choice.checkpoints)
    with devices.strategy.scope():
        tasks = [params.task.Instantiate() for _ in range(models)]
    kept = score_folder.Results(own, job.run, params.task.eval)
    others = {'others': tasks[1:]} if models > 1 else {}
    scorer = make_pass(tasks[0], devices, inputs, **others)
    try:
        if job.choice.follows:
            _ScoreAll(scorer, tasks[0], job, own, kept)
        else:
            _ScoreOne(scorer, tasks, job, own, kept)
    finally:
        kept.Close()


def _ScoreAll(scorer: Any, task: Any, job: Job, own: str, kept: score_folder.Results) -> None:
    """Every checkpoint of the run, the newest first, until training has finished."""
    variables = task.AllVariables()
    for found in watcher.Follow(
        job.run.train, own, kept.Steps, job.run.IsFinished, job.stop, _POLL_S
    ):
        try:
            averaged = weights.Restore(found.prefix, variables)
        except tensors.CorruptError as error:
            _log.warning('%s It is left out.', error)
            continue
        _log.info('Step %d%s.', found.step, ', moving averages' if averaged else '')
        passed = scorer.Run(job.stop)
        if passed is not None:
            job.lock.Check()
            kept.Commit(found.step, found.prefix, passed)


def _ScoreOne(
    scorer: Any, tasks: Sequence[Any], job: Job, own: str, kept: score_folder.Results
) -> None:
    """One checkpoint, average or ensemble."""
    with _Held(job, own) as prefixes:
        if not prefixes:
            return
        step = LoadWeights(tasks, prefixes, job.choice)
        if step in kept.Steps():
            _log.info('Step %d is scored in %s already; --folder=NAME scores it again.', step, own)
            return
        passed = scorer.Run(job.stop)
        if passed is not None:
            job.lock.Check()
            kept.Commit(step, prefixes[0] if len(prefixes) == 1 else None, passed)


def CheckVocabulary(fingerprint: str, run: rundir.RunDir, choice: weights.Choice) -> None:
    """Checks that ids mean to all weights that are chosen what they mean to the input.

    Raises:
      hyperparams.ConfigError: if a run was trained with other tokens.
    """
    run.CheckVocabulary(fingerprint)
    for path in choice.checkpoints:
        try:
            prefix = lookup.Resolve(path)
        except FileNotFoundError:
            continue  # told by who reads it
        vocabulary.Check(vocabulary.RunOf(prefix), fingerprint)


def LoadWeights(tasks: Sequence[Any], prefixes: Sequence[str], choice: weights.Choice) -> int:
    """Gives the tasks their weights.

    Args:
      tasks: one; or one for each checkpoint of an ensemble.
      prefixes: the checkpoints.
      choice: says whether they are averaged.

    Returns:
      The step of the newest checkpoint.
    """
    if choice.averages:
        step = weights.RestoreAverage(prefixes, tasks[0].AllVariables())
        _log.info('Step %d, the average of %s.', step, ', '.join(map(os.path.basename, prefixes)))
        return step
    steps = []
    for task, prefix in zip(tasks, prefixes):
        averaged = weights.Restore(prefix, task.AllVariables())
        steps.append(weights.StepOf(prefix))
        _log.info('Step %d%s.', steps[-1], ', moving averages' if averaged else '')
    return max(steps)


@contextlib.contextmanager
def _Held(job: Job, own: str) -> Iterator[list[str]]:
    """Copies of the chosen checkpoints that no trainer deletes; [] if asked to stop."""
    while True:
        prefixes = WaitFor(job.choice, job.run, job.stop)
        folder = tempfile.mkdtemp(prefix='.tmp-weights-', dir=own)
        try:
            try:
                # One folder each: checkpoints of several runs may have one name.
                copies = [
                    files.LinkOrCopy(prefix, os.path.join(folder, str(i)))
                    for i, prefix in enumerate(prefixes)
                ]
            except FileNotFoundError:
                if job.choice.checkpoints:
                    raise
                continue  # deleted while this looked; there are newer ones
            yield copies
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def WaitFor(choice: weights.Choice, run: rundir.RunDir, stop: threading.Event) -> list[str]:
    """The chosen checkpoints as soon as they are there; [] if asked to stop.

    An average is taken when training has finished, or at once with --once.

    Raises:
      hyperparams.ConfigError: if they are not there and will not come.
    """
    told = False
    while not stop.is_set():
        finished = run.IsFinished() or bool(choice.checkpoints)
        missing = 'The average is taken when training has finished; --once takes it now'
        if finished or choice.once or not choice.averages:
            try:
                return choice.Prefixes(run)
            except FileNotFoundError as error:
                missing = str(error)
                if finished or (choice.once and choice.averages):
                    raise hyperparams.ConfigError(missing) from None
        if not told:
            _log.info('Waiting. %s', missing.rstrip('.') + '.')
            told = True
        stop.wait(_POLL_S)
        if not os.path.isdir(run.path):
            raise FileNotFoundError(f'{run.path} was removed.')
    return []
