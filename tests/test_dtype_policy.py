"""Keras layers made in the __init__ of a task or layer get its policy; the process keeps its."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from lingvo_lite import dtype_policy, task
from lingvo_lite.layers import base
from lingvo_lite.training import precision

EACH_POLICY = pytest.mark.parametrize(
    ('policy', 'dtype'),
    [
        ('float32', tf.float32),
        ('mixed_bfloat16', tf.bfloat16),
        ('mixed_float16', tf.float16),
    ],
)


class _Made(base.BaseLayer):
    """Makes a Keras layer."""

    def __init__(self, params):
        super().__init__(params)
        self.keras_layer = keras.layers.Dense(3)


class _Inherits(_Made):
    """Has the __init__ of its parent."""


class _Adds(_Made):
    """Makes another one behind its parent's __init__."""

    def __init__(self, params):
        super().__init__(params)
        self.another = keras.layers.Dense(3)


class _Task(task.BaseTask):
    """Makes Keras layers before, between and behind its children."""

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('own', _Made.Params(), 'A layer that may have a type of its own.')
        p.Define('fails', False, 'Whether it cannot be built.')
        return p

    def __init__(self, params):
        super().__init__(params)
        self.first = keras.layers.Dense(3)
        self.CreateChild('own', self.params.own)
        self.between = keras.layers.Dense(3)
        self.CreateChildren('more', [_Inherits.Params(), _Adds.Params()])
        self.last = keras.layers.Dense(3)
        if self.params.fails:
            raise ZeroDivisionError


def _Policies(built):
    made = [built.first, built.between, built.last, built.own.keras_layer]
    made += [built.more[0].keras_layer, built.more[1].keras_layer, built.more[1].another]
    return [layer.dtype_policy.name for layer in made]


@pytest.fixture(params=['float32', 'mixed_float16', 'float64'])
def of_the_process(request):
    """The process-wide policy, which is not that of any task."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(request.param)
    yield keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(before)


@EACH_POLICY
def test_a_task_of_a_job(of_the_process, two_replicas, policy, dtype):
    p = _Task.Params()
    p.train.precision = policy
    precision.Apply(p)  # as jobs do
    with base.ShapesOnly():
        assert _Policies(p.Instantiate()) == [policy] * 7
    with two_replicas.scope():
        built = p.Instantiate()
    assert _Policies(built) == [policy] * 7
    assert keras.mixed_precision.dtype_policy() is of_the_process
    assert keras.layers.Dense(3).dtype_policy.name == of_the_process.name
    outputs = built.more[0].keras_layer(tf.ones([2, 5]))
    assert outputs.dtype == dtype == built.dtype
    assert built.more[0].keras_layer.kernel.value.dtype == tf.float32


def test_a_task_without_precision_computes_in_float32(of_the_process):
    assert _Policies(_Task.Params().Instantiate()) == ['float32'] * 7
    assert keras.mixed_precision.dtype_policy() is of_the_process


def test_a_layer_with_a_type_of_its_own(of_the_process):
    p = _Task.Params().Set(fprop_dtype=tf.float16)
    p.own.fprop_dtype = tf.float32
    policies = _Policies(p.Instantiate())
    assert policies.pop(3) == 'float32'
    assert policies == ['mixed_float16'] * 6


def test_a_task_that_cannot_be_built_leaves_the_policy(of_the_process):
    with pytest.raises(ZeroDivisionError):
        _Task.Params().Set(fails=True, fprop_dtype=tf.bfloat16).Instantiate()
    assert keras.mixed_precision.dtype_policy() is of_the_process


@EACH_POLICY
def test_names(policy, dtype):
    assert dtype_policy.DTYPES[policy] == dtype
    assert dtype_policy.Name(dtype) == policy
    assert keras.mixed_precision.DTypePolicy(policy).compute_dtype == dtype.name


def test_a_type_that_is_no_policy_of_ours_has_the_name_of_keras():
    assert dtype_policy.Name(tf.float64) == 'float64'
