"""Embedding."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.layers import embedding


def _Layer(**kwargs):
    p = embedding.Embedding.Params().Set(vocab_size=11, model_dim=4, random_seed=1)
    return p.Set(**kwargs).Instantiate()


def test_rows_of_the_table(inference_step):
    layer = _Layer()
    ids = np.array([[3, 0, 3], [10, 1, 2]])
    np.testing.assert_array_equal(layer(tf.constant(ids)), layer.vars.table.numpy()[ids])


def test_scale(inference_step):
    ids = tf.constant([[3, 4]])
    scaled = _Layer(scale_sqrt_depth=True)(ids)
    np.testing.assert_allclose(scaled, 2 * _Layer()(ids), rtol=1e-6)


def test_vectors_start_with_length_1():
    lengths = np.linalg.norm(_Layer(vocab_size=2000, model_dim=64).vars.table.numpy(), axis=-1)
    assert abs(lengths.mean() - 1) < 0.02


def test_the_table_is_padded_to_a_multiple_of_8():
    assert _Layer(vocab_size=11).vars.table.shape == [16, 4]
    assert _Layer(vocab_size=16).vars.table.shape == [16, 4]


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_gradient_is_dense_and_sums_what_was_looked_up_twice(inference_step, dtype):
    layer = _Layer(fprop_dtype=dtype)
    ids = np.array([[3, 0, 3], [10, 3, 0]])
    upstream = np.arange(24, dtype=np.float32).reshape([2, 3, 4])
    with tf.GradientTape() as tape:
        y = layer(tf.constant(ids))
    assert y.dtype == dtype
    found = tape.gradient(y, layer.vars.table, tf.constant(upstream, dtype))
    wanted = np.zeros([16, 4], np.float32)
    np.add.at(wanted, ids, upstream)
    assert isinstance(found, tf.Tensor) and found.dtype == tf.float32
    np.testing.assert_array_equal(found, wanted)


def test_rows_are_cast_not_the_table():
    layer = _Layer(fprop_dtype=tf.bfloat16)

    @tf.function(autograph=False)
    def Run(ids):
        with step.Context(training=False):
            return layer(ids)

    graph = Run.get_concrete_function(tf.TensorSpec([None, None], tf.int32)).graph
    casts = [op.inputs[0].shape.as_list() for op in graph.get_operations() if op.type == 'Cast']
    assert [None, None, 4] in casts
    assert [16, 4] not in casts


def test_an_id_out_of_range_is_an_error(inference_step):
    with pytest.raises(tf.errors.InvalidArgumentError, match='16 is not in'):
        _Layer()(tf.constant([[16]]))
