"""Block top-k is top-k, ties included; the normaliser is logsumexp."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding import top_k


@pytest.mark.parametrize('size', [7, 512, 1000, 8 * 101, 8 * 1009])
@pytest.mark.parametrize('levels', [3, 40, None])
@pytest.mark.parametrize('k', [1, 5])
def test_equals_a_stable_sort(size, levels, k):
    rng = np.random.RandomState(size + k)
    x = rng.normal(size=[9, size]).astype(np.float32)
    if levels:  # Few values, so many ties.
        x = rng.randint(levels, size=[9, size]).astype(np.float32)
    x[0, :] = -1e9
    x[1, :-1] = -1e9
    values, indices = top_k.top_k(tf.constant(x), k)
    expected = np.argsort(-x, axis=-1, kind='stable')[:, :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, expected, axis=-1))


def test_takes_blocks_where_they_pay():
    def Sizes(size, k):
        graph = tf.function(lambda x: top_k.top_k(x, k), autograph=False).get_concrete_function(
            tf.TensorSpec([None, size], tf.float32)
        )
        ops = [op for op in graph.graph.get_operations() if op.type == 'TopKV2']
        return max(op.inputs[0].shape[-1] for op in ops)

    assert Sizes(8000, 5) == 500
    assert Sizes(32768, 5) == 640
    assert Sizes(8 * 1009, 5) == 640  # No divisor: padded to 64 blocks of 128.
    assert Sizes(8000, 50) == 8000  # Half of all blocks would be chosen.


@pytest.mark.parametrize('shift', [-1000.0, -90.0, 0.0, 90.0, 1000.0])
def test_normalizer_equals_logsumexp_for_logits_of_any_size(shift):
    x = np.random.RandomState(0).normal(size=[6, 600]).astype(np.float32) * 3 + np.float32(shift)
    x[0, 1:] = -1e9
    values, ids = top_k.top_k(tf.constant(x), 2)
    got = top_k.log_normalizer(tf.constant(x), values, ids)[:, 0]
    wide = x.astype(np.float64)
    top = wide.max(-1)
    expected = top + np.log(np.exp(wide - top[:, np.newaxis]).sum(-1))
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=2e-6)
