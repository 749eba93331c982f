"""Clipping against NumPy, and what becomes of infinities."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.optim import clipping


def _Gradients(seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        'a/w': scale * rng.normal(size=[3, 4]).astype(np.float32),
        'a/b': scale * rng.normal(size=[4]).astype(np.float32),
        'scalar': np.float32(scale * rng.normal()),
    }


def _Tensors(grads):
    return {path: None if g is None else tf.constant(g) for path, g in grads.items()}


def _Norm(grads) -> float:
    return float(np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in grads.values())))


@pytest.mark.parametrize('max_norm', [0.5, 1e6])
def test_global_norm(max_norm):
    grads = _Gradients()
    clipped, norm = clipping.ClipByGlobalNorm(_Tensors(grads), max_norm)
    np.testing.assert_allclose(norm, _Norm(grads), rtol=1e-6)
    factor = min(1.0, max_norm / _Norm(grads))
    assert list(clipped) == list(grads)
    for path, grad in grads.items():
        np.testing.assert_allclose(clipped[path], grad * factor, rtol=1e-5)


def test_gradients_under_the_bound_are_not_touched():
    grads = _Gradients()
    clipped, _ = clipping.ClipByGlobalNorm(_Tensors(grads), 100.0)
    for path, grad in grads.items():
        np.testing.assert_array_equal(clipped[path], grad)


def test_a_norm_that_is_given_is_taken():
    clipped, norm = clipping.ClipByGlobalNorm({'w': tf.constant([3.0])}, 1.0, tf.constant(6.0))
    np.testing.assert_allclose(norm, 6.0)
    np.testing.assert_allclose(clipped['w'], [0.5])


def test_zero_gradients_stay_zero():
    clipped, norm = clipping.ClipByGlobalNorm({'w': tf.zeros([2])}, 1.0)
    np.testing.assert_array_equal(clipped['w'], [0.0, 0.0])
    assert norm == 0.0


@pytest.mark.parametrize('bad', [np.inf, -np.inf, np.nan])
def test_one_bad_entry_shows_in_the_norm_and_the_rest_is_kept(bad):
    grads = _Gradients()
    grads['a/b'][2] = bad
    clipped, norm = clipping.ClipByGlobalNorm(_Tensors(grads), 0.1)
    assert not np.isfinite(norm)
    for path, grad in grads.items():
        np.testing.assert_array_equal(clipped[path], grad)


def test_by_value():
    grads = _Gradients(scale=3.0)
    clipped = clipping.ClipByValue(_Tensors(grads), 0.7)
    for path, grad in grads.items():
        np.testing.assert_allclose(clipped[path], np.clip(grad, -0.7, 0.7))


def test_largest_absolute_value():
    grads = _Gradients()
    grads['a/w'][1, 2] = -17.0
    assert clipping.MaxAbs(_Tensors(grads)) == 17.0


def test_none_stays_none():
    grads = {'w': tf.constant([3.0, 4.0]), 'unused': None}
    clipped, norm = clipping.ClipByGlobalNorm(grads, 1.0)
    assert clipped['unused'] is None
    np.testing.assert_allclose(norm, 5.0)
    assert clipping.ClipByValue(grads, 1.0)['unused'] is None
    assert clipping.MaxAbs(grads) == 4.0
    assert clipping.GlobalNorm({'unused': None}) == 0.0


@pytest.mark.parametrize('bound', [0.0, -1.0, float('nan')])
def test_a_bound_must_be_positive(bound):
    with pytest.raises(ValueError, match='must be greater than 0'):
        clipping.ClipByGlobalNorm({'w': tf.zeros([1])}, bound)
    with pytest.raises(ValueError, match='must be greater than 0'):
        clipping.ClipByValue({'w': tf.zeros([1])}, bound)
