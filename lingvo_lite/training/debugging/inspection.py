"""One step computed op by op, with the statistics of every layer: for looking for a mistake.

Nothing is compiled, so a debugger can stop anywhere in a layer, and what is printed is the value.
Forward and backward pass are those of the learner; there is no update.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from lingvo_lite import step as step_lib
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import learner as learner_lib, step_result
from lingvo_lite.training.debugging import first_bad_layer

OnBad = Callable[[str, Any], None]


class Statistics:
    """Of the values of some tensors of floats.

    Attributes:
      shape: of the last tensor.
      calls: how many tensors.
      bad: how many values are not finite.
    """

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.calls = 0
        self.bad = 0
        self._count = 0
        self._square = 0.0
        self._sum = 0.0
        self._least, self._most = math.inf, -math.inf

    def Add(self, value: Any) -> bool:
        """Takes a tensor; whether it is finite."""
        array = np.asarray(tf.cast(value, tf.float32), np.float64)
        fine = array[np.isfinite(array)]
        bad = array.size - fine.size
        self.shape = array.shape
        self.calls += 1
        self.bad += bad
        self._count += fine.size
        if fine.size:
            self._sum += float(fine.sum())
            self._square += float(np.square(fine).sum())
            self._least = min(self._least, float(fine.min()))
            self._most = max(self._most, float(fine.max()))
        return not bad

    @property
    def min(self) -> float:
        """The smallest finite value; nan if there is none."""
        return self._least if self._count else math.nan

    @property
    def max(self) -> float:
        """The largest finite value; nan if there is none."""
        return self._most if self._count else math.nan

    @property
    def mean(self) -> float:
        """The mean of the finite values; nan if there is none."""
        return self._sum / self._count if self._count else math.nan

    @property
    def rms(self) -> float:
        """The root of the mean square of the finite values; nan if there is none."""
        return math.sqrt(self._square / self._count) if self._count else math.nan

    @property
    def norm(self) -> float:
        """The root of the sum of squares; nan or inf if a value is not finite."""
        return math.nan if self.bad else math.sqrt(self._square)


class Layer(NamedTuple):
    """What a layer did in the step, on all replicas.

    Attributes:
      path: of the layer; '' for the task.
      output: of its outputs.
      gradient: of the (scaled) loss by its outputs; nothing was added where there is none.
    """

    path: str
    output: Statistics
    gradient: Statistics


class Inspection(NamedTuple):
    """A step under the glass.

    Attributes:
      numbers: as `StepResult.Read` gives them for this step, counters left out.
      layers: in the order in which they were first done.
      gradients: {path of a variable: gradient of the global batch}, unscaled and before clipping.
      report: what is not finite.
    """

    numbers: NestedMap
    layers: list[Layer]
    gradients: dict[str, np.ndarray]
    report: first_bad_layer.Report


def Inspect(
    learner: learner_lib.Learner,
    batches: Sequence[NestedMap],
    step: int,
    on_bad: Optional[OnBad] = None,
) -> Inspection:
    """Computes a step; nothing of the learner changes.

    Args:
      learner: its variables and its loss scale are those that the step starts from.
      batches: for each replica of this worker.
      step: number of the step, from 0, which decides about dropout.
      on_bad: called with (path, outputs) in each layer whose output is not finite.
    """
    layers: dict[str, Layer] = {}
    recorders: list[_Recorder] = []
    bad_variables: list[str] = []
    strategy = learner.strategy
    with _Eagerly(), learner.StatisticsKept():
        settings = learner.Settings(tf.constant(step, tf.int64))

        def OnReplica(batch: NestedMap) -> Any:
            recorder = _Recorder(layers, bad_variables, on_bad)
            recorders.append(recorder)
            reduced = learner.gradient(batch, settings, recorder)
            return reduced.gradients, learner.Processed(reduced)[1]

        local = [batch.Transform(tf.convert_to_tensor) for batch in batches]
        gradients, numbers = strategy.run(OnReplica, args=(_PerReplica(strategy, local),))
    gradients = {path: _First(strategy, value).numpy() for path, value in gradients.items()}
    numbers = {name: _First(strategy, value) for name, value in numbers.items()}
    numbers.pop('max_gradient', None)
    if settings.scale is not None:
        numbers['loss_scale'] = settings.scale
    numbers['finite'] = math.isfinite(numbers['loss']) and math.isfinite(numbers['grad_norm'])
    values = tf.stack([tf.cast(value, tf.float64) for value in numbers.values()])
    read = step_result.StepResult(list(numbers), values).Read()
    # In the order of the calls: all replicas make the same ones.
    calls = [call.Flags() for each in zip(*(r.calls for r in recorders)) for call in each]
    seen = first_bad_layer.Seen(calls, bad_variables, not math.isfinite(read.loss))
    report = first_bad_layer.Judge(learner.task, batches, seen)
    return Inspection(read, list(layers.values()), gradients, report)


@dataclasses.dataclass
class _Call:
    """One call of a layer on one replica: whether an output or the gradient of one is bad."""

    path: str
    output_bad: bool = False
    gradient_bad: bool = False

    def Flags(self) -> tuple[str, bool, bool]:
        return self.path, self.output_bad, self.gradient_bad


class _Recorder:
    """A gradients.Recorder of one replica that adds to the statistics of all.

    Attributes:
      calls: of layers, in their order.
    """

    def __init__(self, layers: dict[str, Layer], bad_variables: list[str], on_bad: Optional[OnBad]):
        self._layers = layers
        self._bad_variables = bad_variables
        self._on_bad = on_bad
        self.calls: list[_Call] = []
        self._seen: list[tuple[_Call, tf.Tensor]] = []
        self._micro_batch = 0

    def __call__(self, path: str, outputs: Any) -> Any:
        context = step_lib.Current()
        if context.recomputing:  # seen when it was done for the first time
            return outputs
        if context.micro_batch != self._micro_batch:
            self._seen.clear()
            self._micro_batch = context.micro_batch
        layer = self._layers.setdefault(path, Layer(path, Statistics(), Statistics()))
        call = _Call(path)
        self.calls.append(call)
        noted = tf.nest.map_structure(lambda value: self._Note(layer, call, value), outputs)
        if self._on_bad is not None and call.output_bad:
            self._on_bad(path, outputs)
        return noted

    def Tensors(self) -> list[tf.Tensor]:
        return [value for _, value in self._seen]

    def SetGradients(
        self, seen: Sequence[Optional[tf.Tensor]], variables: Mapping[str, Optional[tf.Tensor]]
    ) -> None:
        for (call, _), gradient in zip(self._seen, seen):
            if gradient is not None:
                fine = self._layers[call.path].gradient.Add(tf.convert_to_tensor(gradient))
                call.gradient_bad |= not fine
        for path, gradient in variables.items():
            if gradient is not None and not Statistics().Add(tf.convert_to_tensor(gradient)):
                self._bad_variables.append(path)

    def _Note(self, layer: Layer, call: _Call, value: Any) -> Any:
        # What a layer computes inside a function of its own is symbolic even here.
        if not hasattr(value, 'numpy') or not tf.is_tensor(value) or not value.dtype.is_floating:
            return value
        value = tf.identity(value)
        self._seen.append((call, value))
        call.output_bad |= not layer.output.Add(value)
        return value


@contextlib.contextmanager
def _Eagerly() -> Iterator[None]:
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _PerReplica(strategy: tf.distribute.Strategy, batches: Sequence[NestedMap]) -> Any:
    if len(batches) == 1:
        return batches[0]
    rest = iter(batches)
    return strategy.experimental_distribute_values_from_function(lambda _: next(rest))


def _First(strategy: tf.distribute.Strategy, value: Any) -> Any:
    return strategy.experimental_local_results(value)[0]
