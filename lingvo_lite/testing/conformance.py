"""What every layer must do, checked in the same way for all.

`CASES` lists the public layers, each with tiny Params, its inputs, and how it is called. `CHECKS`
are functions of a `Subject`, which is a case that has been built. A layer that is not in the list
is found by `MissingLayers`.

The batch of each case has examples of several lengths: one whose vectors are zeros, one of length
1, and one that is all padding. What stands at paddings is noise.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import pkgutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

import lingvo_lite.layers
from lingvo_lite import step
from lingvo_lite.layers import (
    attention,
    base,
    dropout,
    embedding,
    feedforward,
    linear,
    norm,
    positions,
    softmax,
    transformer,
)
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.runs import checkpoints

_DIM = 8
_VOCAB = 13
# Lengths of the examples along each axis; SOURCE is what a decoder looks at.
_LENGTHS = {'time': (4, 1, 0, 5), 'source': (3, 1, 0, 6)}
_ZEROS = 3
_TOLERANCE = 1e-4
# Largest deviation from float32, relative to the largest value; twice that for gradients.
_LOW_PRECISION = {tf.bfloat16: 0.02, tf.float16: 0.004}


@dataclasses.dataclass(frozen=True)
class Field:
    """One input of a layer: a tensor [batch, axis, ...].

    Attributes:
      kind: 'vectors' ([batch, axis, _DIM]), 'ids', 'paddings' or 'weights' ([batch, axis]).
      axis: 'time' or 'source'.
    """

    kind: str
    axis: str = 'time'


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and how to call it.

    Attributes:
      name: of the test; the class, and what is special about its Params.
      params: of the layer.
      fields: {name: Field}, its inputs.
      call: (layer, inputs) -> NestedMap with `by_time`, [batch, time, ...], or `by_example`,
        [batch].
      steps: (layer, inputs) -> what `by_time` must be, computed position by position; None if
        there is no such way.
    """

    name: str
    params: Any
    fields: dict[str, Field]
    call: Callable[[Any, NestedMap], NestedMap]
    steps: Optional[Callable[[Any, NestedMap], tf.Tensor]] = None


def Vectors(layer: Any, inputs: NestedMap) -> NestedMap:
    """Calls a layer that takes vectors and nothing else."""
    return NestedMap(by_time=layer(inputs.x))


def _PositionSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    times = range(inputs.x.shape[1])
    return tf.concat([layer(inputs.x[:, t : t + 1], tf.constant(t)) for t in times], axis=1)


def _SelfAttention(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, attention.causal_mask(inputs.paddings)))


def _SelfAttentionSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    cache = layer.InitStates(tf.shape(inputs.x)[0])
    ys = []
    for t in range(inputs.x.shape[1]):
        y, cache = layer.ExtendStep(inputs.x[:, t], cache)
        ys.append(y)
    return tf.stack(ys, axis=1)


def _CrossAttention(layer: Any, inputs: NestedMap) -> NestedMap:
    mask = attention.padding_mask(inputs.source_paddings)
    return NestedMap(by_time=layer(inputs.x, layer.Memory(inputs.source), mask))


def _EncoderLayer(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, attention.padding_mask(inputs.paddings)))


def _DecoderLayer(layer: Any, inputs: NestedMap) -> NestedMap:
    masks = attention.causal_mask(inputs.paddings), attention.padding_mask(inputs.source_paddings)
    return NestedMap(by_time=layer(inputs.x, masks[0], inputs.source, masks[1]))


def _DecoderLayerSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    cache, memory = layer.InitStates(inputs.source)
    mask = attention.padding_mask(inputs.source_paddings)
    ys = []
    for t in range(inputs.x.shape[1]):
        y, cache, _ = layer.ExtendStep(inputs.x[:, t], cache, memory, mask)
        ys.append(y)
    return tf.stack(ys, axis=1)


def _Encoder(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, inputs.paddings))


def _Decoder(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(
        by_time=layer(inputs.x, inputs.paddings, inputs.source, inputs.source_paddings)
    )


def _DecoderSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    state = layer.InitStates(inputs.source, inputs.source_paddings)
    ys = []
    for t in range(inputs.x.shape[1]):
        y, state = layer.ExtendStep(inputs.x[:, t], state)
        ys.append(y)
    return tf.stack(ys, axis=1)


def _Loss(layer: Any, inputs: NestedMap) -> NestedMap:
    out = layer(inputs.x, inputs.ids, inputs.weights)
    # [batch, time, padded vocabulary]
    logits = layer.Logits(tf.reshape(inputs.x, [-1, _DIM]))[:, :_VOCAB]
    logits = tf.reshape(logits, tf.concat([tf.shape(inputs.ids), [_VOCAB]], axis=0))
    return NestedMap(by_time=logits, by_example=out.per_example_loss)


_X = {'x': Field('vectors')}
_OWN = {**_X, 'paddings': Field('paddings')}
_BOTH = {
    **_OWN,
    'source': Field('vectors', 'source'),
    'source_paddings': Field('paddings', 'source'),
}
_RATES = {
    'residual_dropout_prob': 0.25,
    'atten_dropout_prob': 0.25,
    'relu_dropout_prob': 0.25,
}
_HEADS = {'model_dim': _DIM, 'num_heads': 2}
# gelu, because a relu that flips at a rounding error says nothing about low precision.
_LAYER = {**_HEADS, **_RATES, 'hidden_dim': 12, 'feedforward.activation': 'gelu'}
_STACK = {**_HEADS, **_RATES, 'hidden_dim': 12, 'num_layers': 2}
_STACK['layer.feedforward.activation'] = 'gelu'


def _Cases() -> list[Case]:
    feed = feedforward.FeedForward.Params().Set(model_dim=_DIM, hidden_dim=12)
    self_attention = attention.SelfAttention.Params().Set(**_HEADS)
    encoder = transformer.TransformerEncoder.Params().Set(**_STACK)
    decoder = transformer.TransformerDecoder.Params().Set(**_STACK)
    return [
        Case(
            'Linear',
            linear.Linear.Params().Set(input_dim=_DIM, output_dim=5),
            _X,
            Vectors,
        ),
        Case(
            'Embedding',
            embedding.Embedding.Params().Set(
                vocab_size=_VOCAB, model_dim=_DIM, scale_sqrt_depth=True
            ),
            {'ids': Field('ids')},
            lambda layer, inputs: NestedMap(by_time=layer(inputs.ids)),
        ),
        Case(
            'Sinusoid',
            positions.Sinusoid.Params().Set(model_dim=_DIM),
            _X,
            Vectors,
            _PositionSteps,
        ),
        Case(
            'LearnedPositions',
            positions.LearnedPositions.Params().Set(model_dim=_DIM, max_positions=16),
            _X,
            Vectors,
            _PositionSteps,
        ),
        Case('LayerNorm', norm.LayerNorm.Params().Set(model_dim=_DIM), _X, Vectors),
        Case('RmsNorm', norm.RmsNorm.Params().Set(model_dim=_DIM), _X, Vectors),
        Case('Dropout', dropout.Dropout.Params().Set(rate=0.25), _X, Vectors),
        *(
            Case(f'FeedForward-{name}', feed.Copy().Set(activation=name), _X, Vectors)
            for name in feedforward.ACTIVATIONS
        ),
        Case('SelfAttention', self_attention, _OWN, _SelfAttention, _SelfAttentionSteps),
        Case(
            'SelfAttention-rotary',
            self_attention.Copy().Set(rotary=True, atten_dropout_prob=0.25),
            _OWN,
            _SelfAttention,
            _SelfAttentionSteps,
        ),
        Case(
            'CrossAttention',
            attention.CrossAttention.Params().Set(**_HEADS, atten_dropout_prob=0.25),
            {k: v for k, v in _BOTH.items() if k != 'paddings'},
            _CrossAttention,
        ),
        Case(
            'TransformerEncoderLayer',
            transformer.TransformerEncoderLayer.Params().Set(**_LAYER),
            _OWN,
            _EncoderLayer,
        ),
        Case(
            'TransformerDecoderLayer',
            transformer.TransformerDecoderLayer.Params().Set(**_LAYER),
            _BOTH,
            _DecoderLayer,
            _DecoderLayerSteps,
        ),
        Case('TransformerEncoder', encoder, _OWN, _Encoder),
        Case(
            'TransformerEncoder-post-rms-remat',
            encoder.Copy().Set(pre_norm=False, remat=True, norm=norm.RmsNorm.Params()),
            _OWN,
            _Encoder,
        ),
        Case('TransformerDecoder', decoder, _BOTH, _Decoder, _DecoderSteps),
        Case(
            'TransformerDecoder-post-remat',
            decoder.Copy().Set(pre_norm=False, remat=True),
            _BOTH,
            _Decoder,
            _DecoderSteps,
        ),
        Case(
            'SoftmaxLoss',
            softmax.SoftmaxLoss.Params().Set(
                vocab_size=_VOCAB, model_dim=_DIM, label_smoothing=0.1
            ),
            {**_X, 'ids': Field('ids'), 'weights': Field('weights')},
            _Loss,
        ),
    ]


CASES: list[Case] = _Cases()


def MissingLayers(package: Any = lingvo_lite.layers) -> list[str]:
    """Public layers of `package`, that is with an FProp, which no case is about."""
    covered = {case.params.cls for case in CASES}
    missing = []
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):
        module = importlib.import_module(found.name)
        for name, cls in vars(module).items():
            if (
                isinstance(cls, type)
                and issubclass(cls, base.BaseLayer)
                and cls.__module__ == module.__name__
                and cls.FProp is not base.BaseLayer.FProp
                and not name.startswith('_')
                and cls not in covered
            ):
                missing.append(f'{found.name}.{name}')
    return missing


# Inputs.


def Example(case: Case, index: int, pad: int = 0, noise: int = 0) -> NestedMap:
    """Inputs of one example, a batch of 1.

    Args:
      case: the case.
      index: of the example; what is in it depends on this alone.
      pad: how many padded positions stand behind it. An empty example has one at least.
      noise: seed of what stands at padded positions.
    """
    inputs = NestedMap()
    for name, field in case.fields.items():
        length = _LENGTHS[field.axis][index]
        padded = max(1, length + pad)
        values = _Values(field, f'{name}/{index}', length)
        if index == _ZEROS and field.kind == 'vectors':
            values = np.zeros_like(values)
        rest = _Values(field, f'{name}/{index}/{noise}', padded - length)
        if field.kind in ('paddings', 'weights'):
            rest = np.full_like(rest, 1.0 if field.kind == 'paddings' else 0.0)
        inputs[name] = np.concatenate([values, rest])[np.newaxis]
    return inputs


def Batch(case: Case) -> NestedMap:
    """All examples of the case as one batch, padded to the longest."""
    longest = {axis: max(lengths) for axis, lengths in _LENGTHS.items()}
    rows = []
    for index in range(len(_LENGTHS['time'])):
        row = NestedMap()
        for axis, length in longest.items():
            example = Example(case, index, pad=length - _LENGTHS[axis][index])
            row.update({k: v for k, v in example.items() if case.fields[k].axis == axis})
        rows.append(row)
    return NestedMap({k: np.concatenate([row[k] for row in rows]) for k in rows[0]})


def _Values(field: Field, key: str, length: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if field.kind == 'vectors':
        return rng.normal(size=[length, _DIM]).astype(np.float32)
    if field.kind == 'ids':
        return rng.integers(0, _VOCAB, size=[length]).astype(np.int32)
    return np.full([length], 1.0 if field.kind == 'weights' else 0.0, np.float32)


# The subject of the checks.


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
        rows = [i for i, n in enumerate(_LENGTHS['time']) if n]
        flat = [outputs.by_example[rows]] if 'by_example' in outputs else []
        if 'by_time' in outputs:
            flat += [outputs.by_time[i, : _LENGTHS['time'][i]] for i in rows]
        return np.concatenate([np.ravel(np.asarray(x, np.float32)) for x in flat])


@functools.cache
def SubjectOf(name: str) -> Subject:
    """The subject of the case of this name."""
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
    for name, y in outputs.items():
        y = tf.cast(y, tf.float32)
        if name == 'by_time':
            if 'paddings' in inputs:
                real = tf.reshape(1.0 - inputs.paddings, tf.concat([tf.shape(y)[:2], [1]], 0))
                y *= real
            y *= tf.sin(1.0 + tf.cast(tf.range(tf.shape(y)[-1]), tf.float32))
            y *= tf.cos(tf.cast(tf.range(tf.shape(y)[1]), tf.float32))[:, tf.newaxis]
        loss += tf.reduce_sum(y)
    return loss


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
    for index, length in enumerate(_LENGTHS['time']):
        for pad in (0, 4):
            alone = subject.Graph(Example(subject.case, index, pad=pad, noise=pad))
            what = f'example {index} of length {length}, alone, {pad} positions of padding'
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
    rows = inputs.Transform(lambda x: x[:_ZEROS])
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
    for path, gradient in Gradients(subject.case, subject.layer, inputs, training=True).items():
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
        checkpoints.Save(prefix, values)
        checkpoints.RestoreInto(prefix, other.AllVariables())
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
        with step.Context(training=True, step=at_step, seed=5):
            return subject.Real(_Numpy(case.call(layer, inputs)))

    first = Train(1)
    np.testing.assert_array_equal(Train(1), first)
    rates = [x for x in layer.Descendants() if isinstance(x, dropout.Dropout) and x.params.rate]
    assert np.array_equal(Train(2), first) != bool(rates), 'draws must differ between steps'


def CheckReplicas(subject: Subject, strategy: tf.distribute.Strategy) -> None:
    """The outputs and summed gradients of two replicas are those of one, on the same batch."""
    case = subject.case
    batch = subject.batch
    with strategy.scope():
        layer = subject.Build()
    halves = [batch.Transform(lambda x: tf.constant(x[:2])), batch.Transform(lambda x: x[2:])]

    def Replica(inputs: NestedMap) -> Any:
        outputs = Infer(case, layer, inputs)
        return outputs, Gradients(case, layer, inputs, training=False)

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
    for path, wanted in Gradients(case, subject.layer, inputs, training=False).items():
        _Near(gradients[path].numpy(), wanted.numpy(), _TOLERANCE, f'gradient of {path}')


def CheckSteps(subject: Subject) -> None:
    """Position by position is the same as the whole sequence at once."""
    inputs = subject.batch.Transform(tf.constant)
    with step.Context(training=False):
        by_time = subject.case.steps(subject.layer, inputs).numpy()
        with base.Hoisted(subject.layer):
            hoisted = subject.case.steps(subject.layer, inputs).numpy()
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
