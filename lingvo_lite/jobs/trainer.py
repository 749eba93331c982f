"""The trainer: trains a task in a log directory, from where it stands to its end."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Optional

from lingvo_lite import hyperparams
from lingvo_lite.inputs import run_files
from lingvo_lite.jobs import stop_criteria, training_loop
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import runtime, worker_agreement
from lingvo_lite.jobs.faults import lost_resources, signals, watchdog
from lingvo_lite.jobs.reporting import console, startup
from lingvo_lite.runs import rundir, vocabulary

_log = logging.getLogger(__name__)


def Run(
    model: str,
    logdir: str,
    source: job_params.Source,
    device: runtime.Wish,
    eval_datasets: Sequence[str] = (),
    profile_steps: Optional[tuple[int, int]] = None,
) -> int:
    """Trains until the params or a score say that it is enough, or until asked to stop.

    Args:
      model: the experiment.
      logdir: of the run, which is begun or gone on with.
      source: changes to the params.
      device: what the flags say about devices.
      eval_datasets: to evaluate and decode in this process after saves.
      profile_steps: the first and the last step to profile.

    Returns:
      0 at the end; 130 after Ctrl-C, 143 after SIGTERM, everything saved. If it hangs, this does
      not return: see `watchdog`.

    Raises:
      hyperparams.ConfigError: before any device is touched, if something does not fit.
      first_bad_layer.NotFiniteError: if too many steps in a row had no finite gradients.
      lost_resources.LostWorkerError, lost_resources.RemovedError: if another worker, or the log
        directory, goes.
    """
    console.SetUpLogging()
    run = rundir.RunDir(logdir)
    cls = job_params.Experiment(model, source)
    params = job_params.ForTrainer(cls, source, eval_datasets, run)
    # A run that goes on works with files of its own; one that begins takes none that lie there.
    with run_files.Of(run.files, fresh=not run.HasParams()) as files:
        return _Train(run, params, device, files, profile_steps)


def _Train(
    run: rundir.RunDir,
    params: job_params.TrainerParams,
    device: runtime.Wish,
    files: run_files.Keeper,
    profile_steps: Optional[tuple[int, int]],
) -> int:
    table = startup.VariableTable(params.task)
    end = stop_criteria.Ending(run, params.run.task)
    inputs = job_params.BuildInput(params.run.input, train=True)
    words = vocabulary.Vocabulary(inputs.Vocabulary(), inputs.Tokens())
    run.CheckVocabulary(words.fingerprint)
    scored = {name: job_params.BuildInput(p, train=False) for name, p in params.inputs.items()}
    train = params.run.task.train
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(signals.StopRequest('Saving, then ending'))
        dog = stack.enter_context(watchdog.Watchdog(train.watchdog_seconds))
        devices = runtime.Start(device, train.deterministic_ops, exchange=train.communication)
        stop.TakeBack()
        lock = None
        if devices.is_chief:
            lock = stack.enter_context(run.Lock(run.train, 'trainer'))
            stack.enter_context(lost_resources.LogDirectory(run, run.train))
        stack.enter_context(lost_resources.Cluster(devices.num_workers))
        if scored and devices.num_workers > 1:
            raise hyperparams.ConfigError(
                '--eval works in one process; on several workers start an evaler and a decoder.'
            )
        _log.info('%s in %s', params.run.model, run.path)
        for line in table.split('\n'):
            _log.info('%s', line)
        _log.info('%s', startup.BatchArithmetic(inputs, devices, train.accumulation))
        _log.info('%s', startup.DeviceAndPrecision(devices, params.precision, train))
        training = training_loop.TrainingLoop(run, params.run, devices, end, stop, dog, lock, words)
        if devices.num_workers > 1:
            held = {
                'the params': params.run.ToText(),
                'the vocabulary': words.fingerprint,
                'the data': inputs.Fingerprint(),
                'the checkpoints': training.position,
            }
            worker_agreement.CheckSame(devices, run.path, held)
        if devices.is_chief:
            run.WriteParams(params.run, training.position.step)
            run.WriteVariables(table)
            run.WriteVocabulary(words)
            _KeepFiles(files, training.data_files)
            run.WriteCommand(sys.argv)
        for name, dataset in scored.items():
            own = params.run.Copy().Set(input=params.inputs[name])
            training.scores.Add(name, own, dataset)
        if train.early_stop_window and not training.scores.Writes(end.folder):
            _log.info(
                'Scores of %s come from another job: at which step training stops early depends on '
                'when they come. trainer --eval makes it exact.',
                end.folder,
            )
        finished = training.Run(inputs, profile_steps)
    return 0 if finished else stop.exit_code


def _KeepFiles(files: run_files.Keeper, names: Sequence[str]) -> None:
    """Copies into the run what it was built with, and these data files that decoding needs."""
    for name in names:
        try:
            run_files.FindData(name)
        except FileNotFoundError as error:
            _log.warning('The run has no copy of a file that decoding needs. %s', error)
    files.Save()
