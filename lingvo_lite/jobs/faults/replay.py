"""lingvo_lite replay RUN STEP: one step of a run once more, op by op, with numbers of every layer.

The run goes on from its newest checkpoint before the step, in the order and with the seeds that it
had, up to the step; that one is computed eagerly (`training.inspection`). If the run stopped at it
and saved its batch, that batch is used. Nothing is written into the run.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from lingvo_lite import hyperparams
from lingvo_lite.inputs import run_files
from lingvo_lite.jobs import restore
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.reporting import console
from lingvo_lite.runs import metrics_log, rundir, tables, vocabulary
from lingvo_lite.runs.checkpoints import files, init_from
from lingvo_lite.training import learner
from lingvo_lite.training.debugging import first_bad_layer, inspection

_log = logging.getLogger(__name__)


def Run(
    logdir: str,
    step: int,
    source: job_params.Source,
    device: runtime.Wish,
    out: TextIO,
    debug: bool = False,
) -> int:
    """Writes what happened in a step.

    Args:
      logdir: of the run.
      step: as metrics.jsonl, messages and the progress bar count, from 1.
      source: modules to import and the data folder.
      device: what the flags say; dropout is that of the run on as many replicas as it had.
      out: gets the report.
      debug: stop in the debugger in the first layer with an output that is not finite, or at the
        end of the step if there is none.

    Returns:
      0; also where the step is not finite.

    Raises:
      hyperparams.ConfigError: if there is no such run or step.
    """
    console.SetUpLogging()
    run = rundir.RunDir(logdir)
    params = job_params.ForReplay(run, source)
    if step < 1:
        raise hyperparams.ConfigError(f'replay: steps count from 1, got {step}.')
    with run_files.Of(run.files):
        _Replay(run, params, step, device, out, debug)
    return 0


def _Replay(
    run: rundir.RunDir, params: Any, step: int, device: runtime.Wish, out: TextIO, debug: bool
) -> None:
    inputs = job_params.BuildInput(params.input, train=True)
    run.CheckVocabulary(inputs.Vocabulary())
    devices = runtime.Start(device, params.task.train.deterministic_ops, single_worker=True)
    with devices.strategy.scope():
        task = params.task.Instantiate()
    steps = [each.step for each in files.List(run.train)]
    if params.task.train.init_from and not any(each < step for each in steps):
        init_from.Load(
            params.task.train,
            task.AllVariables(),
            task.TokenAxes(),
            vocabulary.Vocabulary(inputs.Vocabulary(), inputs.Tokens()),
        )
    trained = learner.Learner(task, devices.strategy)
    position = restore.RestoreUpTo(run, trained, step - 1)
    start = f'the checkpoint of step {position.step}' if position.step else 'the beginning'
    _log.info('From %s, %d steps to go to step %d.', start, step - 1 - position.step, step)
    batches = _Advance(trained, run, inputs, position, step, devices.replicas)
    stopped = _Debugger() if debug else None
    seen = inspection.Inspect(trained, batches, step - 1, stopped)
    _Write(out, run, step, batches, seen, type(task).__name__)
    if stopped is not None and not stopped.was_called:
        stopped.At(
            'the end of the step: the outputs of all layers are finite', seen, trained, batches
        )


def _Advance(
    trained: learner.Learner,
    run: rundir.RunDir,
    inputs: Any,
    position: restore.Position,
    step: int,
    replicas: int,
) -> Sequence[Any]:
    """Trains up to a step; its batches, for each replica."""
    try:
        feed = inputs.Batches(replicas=replicas, start=position.input_state)
    except ValueError as error:  # other data
        raise hyperparams.ConfigError(f'{run.path}: {error}') from error
    with feed:
        for _ in range(position.step, step - 1):
            trained.TrainStep(next(feed).replicas)
        batches = first_bad_layer.LoadBatches(run.train, step)
        if not batches:
            return next(feed).replicas
    saved = first_bad_layer.BatchFile(run.train, step)
    if len(batches) != replicas:
        raise hyperparams.ConfigError(
            f'{saved} and those of other workers beside it hold the batches of {len(batches)} '
            f'replicas, and here are {replicas}: use --strategy=mirrored '
            f'--replicas={len(batches)}, or move the file away.'
        )
    _log.info('With the batch in %s.', saved)
    return batches


def _Write(
    out: TextIO,
    run: rundir.RunDir,
    step: int,
    batches: Sequence[Any],
    seen: inspection.Inspection,
    task: str,
) -> None:
    numbers = seen.numbers
    ids = np.concatenate([np.asarray(batch.id) for batch in batches])
    lines = [f'Step {step} of {run.path}', f'examples  {_Ids(ids[ids >= 0])}']
    lines.append(f'loss      {numbers.loss:.6g}{_Reported(run, step)}')
    for name, value in numbers.terms.items():
        lines.append(f'  {name}: {value:.6g}, weight {numbers.weights[name]:g}')
    for name, (value, weight) in numbers.metrics.items():
        lines.append(f'  {name}: {value:.6g}, weight {weight:g}')
    lines.append(f'grad norm {numbers.grad_norm:.6g} before clipping')
    if 'regularization' in numbers:
        lines.append(f'regularization {numbers.regularization:.6g}')
    scale = ''
    if 'loss_scale' in numbers:
        lines.append(f'loss scale {numbers.loss_scale:g}')
        scale = f' of {numbers.loss_scale:g} x loss'
    header = ('layer', 'calls', 'output', 'min', 'max', 'mean', 'rms', 'not finite')
    gradient = (f'gradient{scale}: norm', 'not finite ')
    rows = [
        (
            each.path or task,
            each.output.calls,
            ' x '.join(map(str, each.output.shape)) or 'scalar',
            *(f'{value:.4g}' for value in (each.output.min, each.output.max)),
            *(f'{value:.4g}' for value in (each.output.mean, each.output.rms)),
            each.output.bad,
            f'{each.gradient.norm:.4g}' if each.gradient.calls else '-',
            each.gradient.bad,
        )
        for each in seen.layers
    ]
    lines += ['', *tables.Format((*header, *gradient), rows).split('\n'), '']
    rows = []
    for path, value in seen.gradients.items():
        fine = np.isfinite(value)
        norm = float(np.linalg.norm(value)) if fine.all() else math.nan
        largest = float(np.abs(value[fine]).max()) if fine.any() else math.nan
        rows.append((path, f'{norm:.4g}', f'{largest:.4g}', int((~fine).sum())))
    names = ('variable', 'gradient: norm', 'largest', 'not finite')
    lines += [*tables.Format(names, rows).split('\n'), '']
    if numbers.finite:
        lines.append('All layers, the loss and the gradients are finite.')
    else:
        lines.append(first_bad_layer.Cause(seen.report.finding, task))
    out.writelines(line + '\n' for line in lines)
    out.flush()


def _Ids(ids: np.ndarray) -> str:
    shown = ', '.join(str(i) for i in ids[:8])
    more = f' and {len(ids) - 8:,} more' if len(ids) > 8 else ''
    return f'{shown}{more}'


def _Reported(run: rundir.RunDir, step: int) -> str:
    """What the run itself wrote, if a line of its metrics is about this step alone."""
    before = 0
    for line in metrics_log.Read(os.path.join(run.train, 'metrics.jsonl')):
        if line['step'] == step and before == step - 1 and 'loss' in line:
            return f' (metrics.jsonl: {line["loss"]:.6g})'
        before = line['step']
    return ''


class _Debugger:
    """Stops at the first layer with an output that is not finite."""

    def __init__(self) -> None:
        self.was_called = False

    def __call__(self, path: str, outputs: Any) -> None:
        if self.was_called:
            return
        self.At(f'{path or "the task"}: its output is not finite; go up to see its FProp', outputs)

    def At(self, where: str, *values: Any) -> None:
        """Stops; `values` can be looked at."""
        self.was_called = True
        _log.info('Stopped at %s.', where)
        breakpoint()
