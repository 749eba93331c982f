"""Where a loss or gradient that is not finite comes from.

The batch of the step is run again, with a check behind every layer. Of the outputs, the first bad
one in forward order is the cause. If all outputs and the loss are finite, the gradients are looked
at, and the first bad one in the order of the backward pass is the cause: all that come behind it
are bad too.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import learner as learner_lib, replica_function, step_result

_SHOWN = 5  # layers that overflow, in a message


class NotFiniteError(RuntimeError):
    """Training stopped because the loss or the gradients are not finite."""


class Finding(NamedTuple):
    """The cause.

    Attributes:
      kind: 'batch', 'variable', 'output', 'gradient' or 'none'.
      path: of the batch's field, the variable or the layer; '' for 'none'.
    """

    kind: str
    path: str


class Seen(NamedTuple):
    """What a run with a check behind every layer saw.

    Attributes:
      layers: (path, whether its output is bad, whether the gradient of that is bad) for each time
        that a layer was called, in this order.
      bad_variables: paths of variables whose gradient is bad.
      loss_bad: whether the loss is.
    """

    layers: list[tuple[str, bool, bool]]
    bad_variables: list[str]
    loss_bad: bool


class Report(NamedTuple):
    """What is not finite in a step.

    Attributes:
      finding: the cause.
      layers: paths of all layers with a bad output, or if the loss is finite with a bad gradient,
        in the order in which they went bad.
    """

    finding: Finding
    layers: tuple[str, ...]


def Diagnose(
    learner: learner_lib.Learner,
    batches: Sequence[NestedMap],
    result: step_result.StepResult,
    folder: str,
    worker: int = 0,
) -> NotFiniteError:
    """The error to stop with; saves the batch on the way.

    Args:
      learner: just behind a step that was skipped. On several workers all must call this.
      batches: of that step, of this worker.
      result: of that step.
      folder: where the batch is written; see `BatchFile`.
      worker: number of this worker.
    """
    numbers = result.Read()
    path = BatchFile(folder, numbers.step, worker)
    SaveBatch(path, batches)
    scale = numbers.get('loss_scale')
    report = Inspect(learner, batches, numbers.step - 1, scale)
    what = 'loss' if not np.isfinite(numbers.loss) else 'gradient norm'
    value = numbers.loss if what == 'loss' else numbers.grad_norm
    parts = [f'Step {numbers.step}: {what} is {value}.']
    parts.append(Cause(report.finding, type(learner.task).__name__))
    if numbers.get('overflows_at_floor', 0):
        parts.append(
            f'Loss scale: {scale:g}, as small as task.train.loss_scale.min_scale allows. Layers '
            f'that overflow: {_Listed(report.layers)}.'
        )
    elif scale is not None:
        parts.append(f'Loss scale: {scale:g}.')
    parts.append(f'Batch saved to {path}.')
    return NotFiniteError(' '.join(parts))


def BatchFile(folder: str, step: int, worker: int = 0) -> str:
    """Where the batch of a bad step is saved: each worker has a part of it.

    Args:
      folder: the trainer's.
      step: as metrics.jsonl counts, from 1.
      worker: whose part; the chief's has no number.
    """
    part = f'-worker{worker}' if worker else ''
    return os.path.join(folder, f'bad_batch-{step:08d}{part}.npz')


def Cause(finding: Finding, task: str) -> str:
    """A finding as a sentence.

    Args:
      finding: see `Find`.
      task: name of the task's class.
    """
    return {
        'batch': f'The batch itself is not finite: {finding.path}.',
        'variable': f'The variable {finding.path} itself is not finite.',
        'output': f'First bad layer: {finding.path or task}.',
        'gradient': f'First bad layer: {finding.path or task} (its gradient).',
        'none': f'No layer is bad: look at what {task} computes outside of its layers.',
    }[finding.kind]


def Find(
    learner: learner_lib.Learner,
    batches: Sequence[NestedMap],
    step: int,
    loss_scale: Optional[float] = None,
) -> Finding:
    """What is the first to be not finite when a batch is run; arguments as for `Inspect`."""
    return Inspect(learner, batches, step, loss_scale).finding


def Inspect(
    learner: learner_lib.Learner,
    batches: Sequence[NestedMap],
    step: int,
    loss_scale: Optional[float] = None,
) -> Report:
    """What is not finite when a batch is run.

    Args:
      learner: its variables are those that the step started from.
      batches: for each replica of this worker.
      step: number of the step, from 0, which decides about dropout.
      loss_scale: of the step; None for the present one.
    """
    # First of all, and always: it holds collectives, in which other workers would wait.
    seen = _Watch(learner, batches, step, loss_scale)
    return Judge(learner.task, batches, seen)


def Judge(task: Any, batches: Sequence[NestedMap], seen: Seen) -> Report:
    """The cause of what was seen.

    Args:
      task: with the variables that the step started from.
      batches: of the step.
      seen: what a run with a check behind every layer saw.
    """
    outputs = _Unique(path for path, output_bad, _ in seen.layers if output_bad)
    order = {path: i for i, (path, _, _) in enumerate(seen.layers)}
    bad = {path: i for i, (path, _, gradient_bad) in enumerate(seen.layers) if gradient_bad}
    for path in (variable.rpartition('/')[0] for variable in seen.bad_variables):
        bad.setdefault(path, order.get(path, -1))
    backward = tuple(sorted(bad, key=lambda path: (-bad[path], path)))
    layers = outputs or (() if seen.loss_bad else backward)
    for replica, batch in enumerate(batches):
        for field, value in batch.FlattenItems():
            if not _IsFinite(value):
                return Report(Finding('batch', f'{field} (replica {replica})'), layers)
    for path, variable in task.AllVariables().items():
        if not _IsFinite(variable):
            return Report(Finding('variable', path), layers)
    if not layers:
        return Report(Finding('none', ''), ())
    return Report(Finding('output' if outputs else 'gradient', layers[0]), layers)


def SaveBatch(path: str, batches: Sequence[NestedMap]) -> None:
    """Writes batches as npz: 'replica_0.source.ids' and so on. `LoadBatch` reads it."""
    arrays = {}
    for replica, batch in enumerate(batches):
        for field, value in batch.FlattenItems():
            value = np.asarray(value)
            if value.dtype == object:  # strings; npz would pickle them
                value = value.astype(np.bytes_)
            arrays[f'replica_{replica}.{field}'] = value
    np.savez(path, **arrays)


def LoadBatch(path: str) -> list[NestedMap]:
    """The batches in a file that `SaveBatch` wrote."""
    batches: list[NestedMap] = []
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            replica, *parents, last = key.split('.')
            number = int(replica.rpartition('_')[2])
            while len(batches) <= number:
                batches.append(NestedMap())
            node = batches[number]
            for parent in parents:
                node = node.setdefault(parent, NestedMap())
            node[last] = arrays[key]
    return batches


def LoadBatches(folder: str, step: int) -> list[NestedMap]:
    """The batches that the workers saved at a step, in the order of replicas; [] if there are none.

    Args:
      folder, step: see `BatchFile`.
    """
    batches: list[NestedMap] = []
    for worker in itertools.count():
        path = BatchFile(folder, step, worker)
        if not os.path.exists(path):
            break
        batches += LoadBatch(path)
    return batches


def _Watch(
    learner: learner_lib.Learner,
    batches: Sequence[NestedMap],
    step: int,
    loss_scale: Optional[float],
) -> Seen:
    recorders: list[_Recorder] = []
    strategy = learner.strategy

    def OnReplica(batch: NestedMap) -> tf.Tensor:
        recorder = _Recorder()
        recorders.append(recorder)
        settings = learner.Settings(tf.constant(step, tf.int64))
        if loss_scale is not None and settings.scale is not None:
            settings = settings._replace(scale=tf.constant(loss_scale, tf.float32))
        reduced = learner.gradient(batch, settings, recorder)
        bad = tf.concat([[_IsBad([reduced.loss])], recorder.Bad()], axis=0)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            bad = replica.all_reduce(tf.distribute.ReduceOp.SUM, bad)
        return bad

    def Body(batch: Any) -> tf.Tensor:
        bad = strategy.run(OnReplica, args=(batch,))
        return replica_function.FirstLocal(strategy, bad)

    # What is not finite must not be left in them: it would be taken for the cause.
    with learner.StatisticsKept():
        found = replica_function.ReplicaFunction(strategy, Body, 'first bad layer')(batches)
    loss_bad, *bad = (found.numpy() > 0).tolist()
    recorder = recorders[0]
    count = len(recorder.paths)
    layers = [(path, bad[i], bad[count + i]) for i, path in enumerate(recorder.paths)]
    variables = [p for p, is_bad in zip(recorder.variables, bad[2 * count :]) if is_bad]
    return Seen(layers, variables, loss_bad)


class _Recorder:
    """A gradients.Recorder that notes what is not finite.

    Attributes:
      paths: of the layer of each output seen, in forward order.
      variables: {path: gradients of the variable}.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.variables: dict[str, list[tf.Tensor]] = {}
        self._outputs: list[tf.Tensor] = []
        self._gradients: list[list[tf.Tensor]] = []
        self._graph = tf.compat.v1.get_default_graph()

    def __call__(self, path: str, outputs: Any) -> Any:
        return tf.nest.map_structure(lambda value: self._Note(path, value), outputs)

    def Tensors(self) -> list[tf.Tensor]:
        return list(self._outputs)

    def SetGradients(
        self, seen: Sequence[Optional[tf.Tensor]], variables: Mapping[str, Optional[tf.Tensor]]
    ) -> None:
        # A layer seen only in the backward pass, by rematerialization, has no gradient here.
        for gradients, gradient in zip(self._gradients, seen):
            if gradient is not None:
                gradients.append(tf.convert_to_tensor(gradient))
        for path, gradient in variables.items():
            if gradient is not None:
                self.variables.setdefault(path, []).append(tf.convert_to_tensor(gradient))

    def Bad(self) -> tf.Tensor:
        """float32 [outputs + outputs + variables]: 1 where an output, its gradient, a variable's
        gradient is not finite.
        """
        flags = [_IsBad([output]) for output in self._outputs]
        flags += [_IsBad(gradients) for gradients in self._gradients]
        flags += [_IsBad(gradients) for gradients in self.variables.values()]
        return tf.stack(flags)

    def _Note(self, path: str, value: Any) -> Any:
        # What is computed inside a loop's own graph cannot be looked at from outside.
        if not isinstance(value, tf.Tensor) or not value.dtype.is_floating:
            return value
        if value.graph is not self._graph:
            return value
        value = tf.identity(value)
        self.paths.append(path)
        self._outputs.append(value)
        self._gradients.append([])
        return value


def _Unique(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


def _Listed(paths: Sequence[str]) -> str:
    """The first few, and how many more."""
    shown = [path or 'the task itself' for path in paths[:_SHOWN]]
    more = len(paths) - len(shown)
    return ', '.join(shown) + (f' and {more} more' if more else '') if shown else 'none'


def _IsFinite(value: Any) -> bool:
    """Whether a numpy array, tensor or variable is; what is not of floats always is."""
    value = np.asarray(value)
    return not np.issubdtype(value.dtype, np.floating) or bool(np.isfinite(value).all())


def _IsBad(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """1.0 if anything in `values` is not finite, else 0.0."""
    if not values:
        return tf.constant(0.0)
    fine = [tf.reduce_all(tf.math.is_finite(value)) for value in values]
    return 1.0 - tf.cast(tf.reduce_all(tf.stack(fine)), tf.float32)
