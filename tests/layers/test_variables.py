"""The variables of a layer, and theta: what the forward pass sees of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.layers import base, batch_norm, linear


def _Linear(**kwargs):
    return linear.Linear.Params().Set(input_dim=3, output_dim=2, **kwargs)


class _Pair(base.BaseLayer):
    """Two children."""

    def __init__(self, params):
        super().__init__(params)
        self.CreateChildren('parts', [_Linear(), _Linear()])


def test_vars_are_float32_and_theta_is_of_the_compute_type(inference_step):
    layer = _Linear(fprop_dtype=tf.bfloat16).Instantiate()
    assert layer.vars.w.dtype == tf.float32
    assert layer.theta.w.dtype == tf.bfloat16
    assert layer.theta32.w.dtype == tf.float32


def test_unknown_names(inference_step):
    layer = _Linear().Instantiate()
    for variables in (layer.vars, layer.theta):
        with pytest.raises(AttributeError, match="Linear at '' has no variable 'v'; .* w, b."):
            variables.v  # noqa: B018
        with pytest.raises(AttributeError, match='CreateVariable'):
            variables.w = 1


def test_it_needs_a_context():
    with pytest.raises(RuntimeError, match='outside of a step context'):
        _Linear().Instantiate()(tf.ones([1, 3]))


def test_noise_is_one_draw_for_all_replicas_and_micro_batches():
    layer = _Linear(fprop_dtype=tf.float32).Instantiate()

    def Noise(training=True, vn_std=0.5, name='w', **kwargs):
        with step.Context(training=training, vn_std=vn_std, **kwargs):
            return getattr(layer.theta, name).numpy() - getattr(layer.vars, name).numpy()

    noise = Noise(step=1)
    assert 0.1 < noise.std() < 1.5
    np.testing.assert_array_equal(Noise(step=1, replica=1, micro_batch=2), noise)
    assert not np.array_equal(Noise(step=2), noise)
    np.testing.assert_allclose(Noise(step=1, vn_std=1.0), 2 * noise, atol=1e-6)
    assert np.all(Noise(step=1, training=False) == 0)
    assert np.all(Noise(step=1, vn_std=None) == 0)


def test_statistics_get_no_noise():
    layer = batch_norm.BatchNorm.Params().Set(model_dim=3).Instantiate()
    with step.Context(training=True, vn_std=0.5):
        assert np.all(layer.theta.moving_mean == 0)
        assert np.all(layer.theta.scale != layer.vars.scale)


def test_substitutes_stand_in_for_variables():
    layer = _Linear(fprop_dtype=tf.bfloat16).Instantiate()
    average = {layer.vars.w.ref(): tf.fill([3, 2], 0.25)}
    with step.Context(training=False, substitutes=average):
        y = layer(tf.ones([1, 3]))
        assert layer.theta.w.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(y, tf.float32), [[0.75, 0.75]])


def test_hoisted_is_what_it_was_at_the_entry(inference_step):
    layer = _Pair.Params().Instantiate()
    first, second = layer.parts
    before = first.theta.w.numpy()
    with base.Hoisted(layer):
        first.vars.w.assign(tf.zeros([3, 2]))
        np.testing.assert_array_equal(first.theta.w, before)
        with base.Hoisted(second):
            np.testing.assert_array_equal(first.theta.w, before)
    assert np.all(first.theta.w == 0)


def test_a_hoisted_loop_neither_reads_nor_casts():
    layer = linear.Linear.Params().Set(input_dim=3, output_dim=3, fprop_dtype=tf.bfloat16)
    layer = layer.Instantiate()

    def Casts(hoist):
        @tf.function(autograph=False)
        def Run(x):
            with step.Context(training=False) as context:
                if hoist:
                    with base.Hoisted(layer):
                        return Loop(x)
                assert context.hoisted is None
                return Loop(x)

        def Loop(x):
            return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, layer(x)), (0, x))[1]

        graph = Run.get_concrete_function(tf.TensorSpec([2, 3], tf.bfloat16)).graph
        loop = next(op for op in graph.get_operations() if op.type.endswith('While'))
        body = graph._get_function(loop.get_attr('body').name).graph
        return sum(op.type in ('Cast', 'ReadVariableOp') for op in body.get_operations())

    assert Casts(True) == 0
    assert Casts(False) > 0
