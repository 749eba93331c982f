"""Each conformance check fails for a layer that breaks its rule, and for no other reason."""

from __future__ import annotations

import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.layers import base, dropout
from lingvo_lite.layers.initializers import WeightInit
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.testing import conformance, layer_cases

_DIM = 8


class _Sound(base.BaseLayer):
    """y = x w."""

    def __init__(self, params):
        super().__init__(params)
        self.CreateVariable('w', base.Weight([_DIM, _DIM]))

    def FProp(self, x):
        return tf.einsum('btd,de->bte', tf.cast(x, self.dtype), self.theta.w)

    def Step(self, x, t):
        """x: [batch, dim]."""
        return tf.matmul(x, self.theta.w)


class _NoDescription(_Sound):
    """As above."""

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('factor', 1.0, 'factor')
        return p


class _EagerDiffers(_Sound):
    def FProp(self, x):
        return super().FProp(x) * (1.0 if tf.executing_eagerly() else 1.01)


class _LooksAtTheBatch(_Sound):
    def FProp(self, x):
        y = super().FProp(x)
        return y - tf.reduce_mean(y, axis=0, keepdims=True)


class _LooksAtPadding(_Sound):
    def FProp(self, x):
        return super().FProp(x) + tf.cumsum(tf.cast(x, self.dtype), axis=1, reverse=True)


class _DividesByZero(_Sound):
    def FProp(self, x):
        y = super().FProp(x)
        return y / tf.sqrt(tf.reduce_sum(y * y, axis=-1, keepdims=True))


class _OverflowsFloat16(_Sound):
    def FProp(self, x):
        return super().FProp(x) * 1e4 * 1e4 * 1e-8


class _UnusedVariable(_Sound):
    def __init__(self, params):
        super().__init__(params)
        self.CreateVariable('unused', base.Weight([2]))


class _ZeroGradient(_Sound):
    def __init__(self, params):
        super().__init__(params)
        self.CreateVariable('b', base.Weight([_DIM], init=WeightInit.Constant(-1.0)))

    def FProp(self, x):
        y = super().FProp(x)
        return y + tf.nn.relu(tf.cast(self.theta.b, y.dtype))


class _HiddenVariable(_Sound):
    def __init__(self, params):
        super().__init__(params)
        self._hidden = tf.Variable(tf.ones([_DIM]) * float(self.params.random_seed))

    def FProp(self, x):
        return super().FProp(x) * tf.cast(self._hidden, self.dtype)


class _DrawsAlways(_Sound):
    def FProp(self, x):
        y = super().FProp(x)
        return y * tf.cast(tf.random.uniform([1, 1, _DIM]), y.dtype)


class _SameDrawInEachStep(dropout.Dropout):
    """Draws from a seed of its own."""

    def FProp(self, x):
        if not step.Current().training:
            return x
        kept = dropout.keep_mask(tf.shape(x), self.params.rate, tf.constant([1, 2]))
        return x * tf.cast(kept, x.dtype)


class _LooksAtTheReplica(_Sound):
    def FProp(self, x):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return super().FProp(x) + tf.cast(replica, self.dtype)


class _OtherSteps(_Sound):
    def Step(self, x, t):
        return super().Step(x, t) + 0.001 * t


class _CountsFromShapesDiffer(_Sound):
    def NumParameters(self):
        return super().NumParameters() + (not self.AllVariables())


def _Steps(layer, inputs):
    return tf.stack([layer.Step(inputs.x[:, t], t) for t in range(inputs.x.shape[1])], axis=1)


def _Subject(cls, **settings):
    params = cls.Params().Set(**settings)
    fields = {'x': layer_cases.Field('vectors')}
    return conformance.Subject(
        layer_cases.Case(cls.__name__, params, fields, layer_cases.Vectors, _Steps)
    )


@pytest.mark.parametrize('check', [*conformance.CHECKS, conformance.CheckSteps])
def test_a_sound_layer_passes(check):
    check(_Subject(_Sound))


@pytest.mark.parametrize(
    'check, cls',
    [
        (conformance.CheckText, _NoDescription),
        (conformance.CheckGraph, _EagerDiffers),
        (conformance.CheckCompany, _LooksAtTheBatch),
        (conformance.CheckCompany, _LooksAtPadding),
        (conformance.CheckFinite, _DividesByZero),
        (conformance.CheckLowPrecision, _OverflowsFloat16),
        (conformance.CheckGradients, _UnusedVariable),
        (conformance.CheckGradients, _ZeroGradient),
        (conformance.CheckCheckpoint, _HiddenVariable),
        (conformance.CheckDeterminism, _DrawsAlways),
        (conformance.CheckSteps, _OtherSteps),
        (conformance.CheckShapesOnly, _CountsFromShapesDiffer),
    ],
)
def test_a_layer_that_breaks_the_rule_is_found(check, cls):
    with pytest.raises(AssertionError):
        check(_Subject(cls))


def test_draws_that_repeat_in_each_step_are_found():
    subject = _Subject(_SameDrawInEachStep, rate=0.5)
    with pytest.raises(AssertionError, match='draws must differ between steps'):
        conformance.CheckDeterminism(subject)


def test_a_layer_that_knows_its_replica_is_found(two_replicas):
    conformance.CheckReplicas(_Subject(_Sound), two_replicas)
    with pytest.raises(AssertionError):
        conformance.CheckReplicas(_Subject(_LooksAtTheReplica), two_replicas)


def test_a_trace_for_each_shape_is_found():
    subject = _Subject(_Sound)
    call = subject.graph.python_function
    subject.graph = tf.function(call, autograph=False)
    with pytest.raises(AssertionError, match='traces'):
        conformance.CheckGraph(subject)


def test_inputs_hold_zeros_padding_and_length_1():
    case = next(c for c in layer_cases.CASES if c.name == 'TransformerDecoder')
    batch = layer_cases.Batch(case)
    lengths = (1 - batch.paddings).sum(axis=1)
    assert 0 in lengths and 1 in lengths and batch.x.shape[1] == lengths.max()
    assert any(not x[: int(n)].any() and n > 1 for x, n in zip(batch.x, lengths))
    assert batch.x[lengths == 0].any(), 'what stands at paddings is noise'


def test_an_example_is_the_same_alone_and_in_the_batch():
    case = next(c for c in layer_cases.CASES if c.name == 'SoftmaxLoss')
    batch = layer_cases.Batch(case)
    alone = layer_cases.Example(case, 0, pad=2, noise=1)
    assert (batch.x[0, :4] == alone.x[0, :4]).all() and (batch.ids[0, :4] == alone.ids[0, :4]).all()
    assert not (batch.x[0, 4:5] == alone.x[0, 4:5]).all()
    assert alone.weights.tolist() == [[1, 1, 1, 1, 0, 0]]
    assert isinstance(alone, NestedMap)
