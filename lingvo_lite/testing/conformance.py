"""What every layer must do, checked in the same way for all.

`CHECKS` are functions of a `Subject`, a case of `layer_cases` that has been built; so are
`CheckSteps`, for cases that go step by step, and `CheckReplicas`, which takes a strategy too. They
raise AssertionError.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.layers import base, dropout
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.runs.checkpoints import tensors
from lingvo_lite.testing.layer_cases import CASES, LENGTHS, ZEROS, Batch, Case, Example

_TOLERANCE = 1e-4
# Largest deviation from float32, relative to the largest value; twice that for gradients.
_LOW_PRECISION = {tf.bfloat16: 0.02, tf.float16: 0.004}


class Subject:
    """A case, built once, with what its checks share.

    Attributes:
      case: the case.
      layer: built, float32.
      batch: its inputs, NumPy.
      outputs: what it returns for the batch, NumPy, computed in a tf.function.
      traces: how often that function was traced so far.
    """

    def __init__(self, case: Case):
        self.case = case
        self.layer = self.Build()
        self.batch = Batch(case)
        self.traces = 0

        def Run(inputs: NestedMap) -> NestedMap:
            self.traces += 1
            return Infer(case, self.layer, inputs)

        signature = NestedMap(
            {
                name: tf.TensorSpec([None] * 2 + list(x.shape[2:]), x.dtype)
                for name, x in self.batch.items()
            }
        )
        self.graph = tf.function(Run, input_signature=[signature], autograph=False)
        self.outputs = self.Graph(self.batch)

    def Build(self, seed: int = 5, **settings: Any) -> Any:
        """The layer; with other Params if `settings` are given."""
        return self.case.params.Copy().Set(random_seed=seed, **settings).Instantiate()

    def Graph(self, inputs: NestedMap) -> NestedMap:
        """What the traced layer returns."""
        return _Numpy(self.graph(inputs.Transform(tf.constant)))

    def Real(self, outputs: NestedMap) -> np.ndarray:
        """The outputs at real positions of real examples, flat."""
        lengths = _Lengths(outputs)
        rows = [i for i, n in enumerate(lengths) if n]
        flat = [outputs.by_example[rows]] if 'by_example' in outputs else []
        if 'by_time' in outputs:
            flat += [outputs.by_time[i, : lengths[i]] for i in rows]
        return np.concatenate([np.ravel(np.asarray(x, np.float32)) for x in flat])


@functools.lru_cache(maxsize=1)  # all of them are 600 MB
def SubjectOf(name: str) -> Subject:
    """The subject of the case of this name, kept until another is asked for."""
    return Subject(next(case for case in CASES if case.name == name))


def Infer(case: Case, layer: Any, inputs: NestedMap) -> NestedMap:
    """The layer's outputs when it is not training."""
    with step.Context(training=False):
        return case.call(layer, inputs)


def Gradients(
    case: Case, layer: Any, inputs: NestedMap, training: bool, at_step: int = 1
) -> dict[str, tf.Tensor]:
    """{path: gradient} of a weighted sum of the outputs at real positions."""
    variables = layer.TrainableVariables()
    with step.Context(training=training, step=at_step, seed=5):
        with tf.GradientTape() as tape:
            loss = Objective(case.call(layer, inputs), inputs)
        return dict(zip(variables, tape.gradient(loss, list(variables.values()))))


def Objective(outputs: NestedMap, inputs: NestedMap) -> tf.Tensor:
    """A sum of the outputs with weights that differ, so that no gradient cancels."""
    loss = tf.zeros([])
    paddings = outputs.get('paddings', inputs.get('paddings'))
    for name, y in outputs.items():
        if name == 'paddings':
            continue
        y = tf.cast(y, tf.float32)
        if name == 'by_time':
            if paddings is not None:
                y *= tf.reshape(1.0 - paddings, tf.concat([tf.shape(y)[:2], [1]], 0))
            y *= tf.sin(1.0 + tf.cast(tf.range(tf.shape(y)[-1]), tf.float32))
            y *= tf.cos(tf.cast(tf.range(tf.shape(y)[1]), tf.float32))[:, tf.newaxis]
        loss += tf.reduce_sum(y)
    return loss


def _Lengths(outputs: NestedMap) -> list[int]:
    """How many real positions each example of the batch has in `by_time`."""
    if 'paddings' not in outputs:
        return list(LENGTHS['time'])
    return [int(n) for n in np.sum(1.0 - np.asarray(outputs.paddings), axis=1)]


def _Statistics(layer: Any) -> dict[str, tf.Variable]:
    """{path: variable} of those that the forward pass itself changes in training."""
    trainable = layer.TrainableVariables()
    return {p: v for p, v in layer.AllVariables().items() if p not in trainable}


@contextlib.contextmanager
def _StatisticsKept(layer: Any) -> Iterator[None]:
    """Behind it, what training changed by itself is as it was."""
    before = {path: v.numpy() for path, v in _Statistics(layer).items()}
    try:
        yield
    finally:
        for path, variable in _Statistics(layer).items():
            variable.assign(before[path])


def _Draws(subject: Subject) -> bool:
    """Whether training has random draws over activations."""
    layers = subject.layer.Descendants()
    return subject.case.draws or any(
        isinstance(x, dropout.Dropout) and x.params.rate for x in layers
    )


def _Numpy(outputs: Any) -> Any:
    return tf.nest.map_structure(lambda x: x.numpy(), outputs)


def _Close(found: Any, wanted: Any, tolerance: float, what: str) -> None:
    np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=tolerance, err_msg=what)


# The checks.


def CheckText(subject: Subject) -> None:
    """Params are the same after a round trip through text, and each has a description."""
    p = subject.case.params
    text = p.ToText()
    again = p.cls.Params().FromText(text)
    assert again == p and again.ToText() == text
    p.Visit(lambda key, value: _Described(p, key))
    assert p.cls.__doc__, f'{p.cls.__name__} has no docstring.'


def _Described(p: Any, key: str) -> None:
    assert p.Description(key).endswith('.'), f'{key}: a description is a sentence with a full stop.'


def CheckGraph(subject: Subject) -> None:
    """Eager equals graph; one trace serves all batch sizes and times."""
    eager = _Numpy(Infer(subject.case, subject.layer, subject.batch.Transform(tf.constant)))
    for name, wanted in subject.outputs.items():
        _Close(eager[name], wanted, 1e-5, f'{name}: eager and graph')
    subject.Graph(Example(subject.case, 0, pad=3))
    assert subject.traces == 1, f'{subject.traces} traces.'


def CheckCompany(subject: Subject) -> None:
    """An example's outputs do not depend on the batch it is in, nor on the padding behind it."""
    by_time, by_example = (subject.outputs.Get(k) for k in ('by_time', 'by_example'))
    for index, length in enumerate(_Lengths(subject.outputs)):
        for pad in (0, 4):
            alone = subject.Graph(Example(subject.case, index, pad=pad, noise=pad))
            what = f'example {index} of length {length}, alone, {pad} positions of padding'
            if 'paddings' in alone:
                assert _Lengths(alone) == [length], what
            if by_time is not None:
                _Close(alone.by_time[0, :length], by_time[index, :length], _TOLERANCE, what)
            if by_example is not None:
                _Close(alone.by_example[0], by_example[index], _TOLERANCE, what)


def CheckFinite(subject: Subject) -> None:
    """All outputs are finite, those of padding included."""
    for name, y in subject.outputs.items():
        assert np.isfinite(y).all(), name


def CheckLowPrecision(subject: Subject) -> None:
    """Outputs and gradients in bfloat16 and float16 are finite, and close to those in float32."""
    case = subject.case
    inputs = subject.batch.Transform(tf.constant)
    # Not the zeros: the gradient of a norm at 0 is 1 / sqrt(epsilon), and of a few in a row beyond
    # what float16 can hold.
    rows = inputs.Transform(lambda x: x[:ZEROS])
    wanted = subject.Real(subject.outputs)
    gradients = _Flat(Gradients(case, subject.layer, rows, training=False))
    for dtype, tolerance in _LOW_PRECISION.items():
        layer = subject.Build(fprop_dtype=dtype)
        found = _Numpy(Infer(case, layer, inputs))
        for name, y in found.items():
            assert np.isfinite(np.asarray(y, np.float32)).all(), f'{name} in {dtype.name}'
        _Near(subject.Real(found), wanted, tolerance, dtype.name)
        low = _Flat(Gradients(case, layer, rows, training=False))
        assert np.isfinite(low).all(), f'gradient in {dtype.name}'
        _Near(low, gradients, 2 * tolerance, f'gradient in {dtype.name}')


def _Flat(gradients: dict[str, tf.Tensor]) -> np.ndarray:
    assert all(g.dtype == tf.float32 for g in gradients.values())
    return np.concatenate([np.zeros(1), *(np.ravel(g) for g in gradients.values())])


def _Near(found: np.ndarray, wanted: np.ndarray, tolerance: float, what: str) -> None:
    error = np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())
    assert error <= tolerance, f'{what}: {error:.2g} away.'


def CheckGradients(subject: Subject) -> None:
    """Every trainable variable gets a gradient that is finite and not zero."""
    inputs = subject.batch.Transform(tf.constant)
    with _StatisticsKept(subject.layer):
        gradients = Gradients(subject.case, subject.layer, inputs, training=True)
    for path, gradient in gradients.items():
        assert gradient is not None, f'{path} has no gradient.'
        dense = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(dense).all(), f'The gradient of {path} is not finite.'
        assert np.abs(dense).max() > 0, f'The gradient of {path} is zero.'


def CheckCheckpoint(subject: Subject) -> None:
    """A checkpoint by path brings everything back that the outputs depend on."""
    values = {path: v.numpy() for path, v in subject.layer.AllVariables().items()}
    other = subject.Build(seed=6)
    if not values:
        return
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, 'ckpt-00000001')
        tensors.Save(prefix, values)
        tensors.RestoreInto(prefix, other.AllVariables())
    outputs = _Numpy(Infer(subject.case, other, subject.batch.Transform(tf.constant)))
    for name, wanted in subject.outputs.items():
        _Close(outputs[name], wanted, 1e-5, name)


def CheckDeterminism(subject: Subject) -> None:
    """Not training, outputs are always the same; training, the same in the same step."""
    case, layer = subject.case, subject.layer
    inputs = subject.batch.Transform(tf.constant)
    again = subject.Graph(subject.batch)
    for name, wanted in subject.outputs.items():
        np.testing.assert_array_equal(again[name], wanted)

    def Train(at_step: int) -> np.ndarray:
        with step.Context(training=True, step=at_step, seed=5), _StatisticsKept(layer):
            return subject.Real(_Numpy(case.call(layer, inputs)))

    first = Train(1)
    np.testing.assert_array_equal(Train(1), first)
    assert np.array_equal(Train(2), first) != _Draws(subject), 'draws must differ between steps'


def CheckReplicas(subject: Subject, strategy: tf.distribute.Strategy) -> None:
    """The outputs and summed gradients of two replicas are those of one, on the same batch.

    Also in training, with the statistics it leaves behind, where a layer has any and no draws.
    """
    _CheckReplicas(subject, strategy, training=False)
    if _Statistics(subject.layer) and not _Draws(subject):
        _CheckReplicas(subject, strategy, training=True)


def _CheckReplicas(subject: Subject, strategy: tf.distribute.Strategy, training: bool) -> None:
    case = subject.case
    batch = subject.batch
    with strategy.scope():
        layer = subject.Build()
    halves = [batch.Transform(lambda x: tf.constant(x[:2])), batch.Transform(lambda x: x[2:])]

    def Replica(inputs: NestedMap) -> Any:
        outputs = Infer(case, layer, inputs)
        return outputs, Gradients(case, layer, inputs, training=training)

    @tf.function(autograph=False)
    def Run() -> Any:
        inputs = tf.nest.map_structure(
            lambda *values: strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(values[context.replica_id_in_sync_group])
            ),
            *halves,
        )
        outputs, gradients = strategy.run(Replica, args=(inputs,))
        local = strategy.experimental_local_results
        return (
            {k: tf.concat(local(y), axis=0) for k, y in outputs.items()},
            {k: tf.add_n(local(g)) for k, g in gradients.items()},
        )

    outputs, gradients = Run()
    for name, wanted in subject.outputs.items():
        _Close(outputs[name], wanted, 1e-5, name)
    inputs = batch.Transform(tf.constant)
    with _StatisticsKept(subject.layer):
        for path, wanted in Gradients(case, subject.layer, inputs, training=training).items():
            _Near(gradients[path].numpy(), wanted.numpy(), _TOLERANCE, f'gradient of {path}')
        for path, variable in _Statistics(subject.layer).items():
            for found in strategy.experimental_local_results(layer.AllVariables()[path]):
                _Close(found, variable, 1e-5, path)


def CheckSteps(subject: Subject) -> None:
    """Position by position is the same as the whole sequence at once."""
    inputs = subject.batch.Transform(tf.constant)
    steps = subject.case.steps
    assert steps is not None
    with step.Context(training=False):
        by_time = steps(subject.layer, inputs).numpy()
        with base.Hoisted(subject.layer):
            hoisted = steps(subject.layer, inputs).numpy()
    wanted = subject.Real(NestedMap(by_time=subject.outputs.by_time))
    _Close(subject.Real(NestedMap(by_time=by_time)), wanted, 1e-5, 'steps')
    _Close(subject.Real(NestedMap(by_time=hoisted)), wanted, 1e-5, 'steps, variables hoisted')


def CheckShapesOnly(subject: Subject) -> None:
    """Parameters counted from shapes are those that get allocated."""
    with base.ShapesOnly():
        layer = subject.Build()
    assert not layer.AllVariables()
    built = subject.layer.TrainableVariables()
    assert layer.NumParameters() == sum(int(tf.size(v)) for v in built.values())
    assert list(layer.Weights()) == list(subject.layer.AllVariables())


CHECKS: Sequence[Callable[[Subject], None]] = (
    CheckText,
    CheckGraph,
    CheckCompany,
    CheckFinite,
    CheckLowPrecision,
    CheckGradients,
    CheckCheckpoint,
    CheckDeterminism,
    CheckShapesOnly,
)
