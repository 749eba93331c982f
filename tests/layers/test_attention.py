"""Multi-head attention against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers import attention
from lingvo_lite.nested_map import NestedMap

_DIM, _HEADS = 6, 3
_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=[3, 4, _DIM]).astype(np.float32)
_SOURCE = _RNG.normal(size=[3, 5, _DIM]).astype(np.float32)
# The last example is all padding.
_SOURCE_PADDINGS = np.array([[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1] * 5], np.float32)
_PADDINGS = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [1] * 4], np.float32)


def _Layer(cls, **kwargs):
    p = cls.Params().Set(model_dim=_DIM, num_heads=_HEADS, random_seed=3)
    layer = p.Set(**kwargs).Instantiate()
    rng = np.random.default_rng(1)
    for variable in layer.AllVariables().values():
        variable.assign(rng.normal(size=variable.shape) * 0.7)
    return layer


def _Attend(q, k, v, looks, output):
    """One example, one query and one head at a time. looks: bool [batch, t, s]."""
    y = np.zeros(q.shape)
    probs = np.zeros([len(q), _HEADS, q.shape[1], k.shape[1]])
    size = _DIM // _HEADS
    for b, t, h in np.ndindex(len(q), q.shape[1], _HEADS):
        head = slice(h * size, (h + 1) * size)
        seen = np.flatnonzero(looks[b, t])
        if seen.size:
            e = np.exp(k[b, seen, head] @ q[b, t, head] / np.sqrt(size))
            probs[b, h, t, seen] = e / e.sum()
            y[b, t, head] = probs[b, h, t, seen] @ v[b, seen, head]
    return y @ output[0] + output[1], probs


def _Weights(layer, name):
    child = getattr(layer, name)
    return child.vars.w.numpy(), child.vars.b.numpy()


@pytest.mark.parametrize('causal', [False, True])
def test_self_attention(inference_step, causal):
    layer = _Layer(attention.SelfAttention)
    paddings = tf.constant(_PADDINGS)
    mask = (attention.causal_mask if causal else attention.padding_mask)(paddings)
    y, probs = layer(tf.constant(_X), mask, return_probs=True)

    w, b = _Weights(layer, 'qkv')
    q, k, v = np.split(_X @ w + b, 3, axis=-1)
    looks = np.repeat(_PADDINGS[:, np.newaxis] == 0, 4, axis=1)
    if causal:
        looks = looks & np.tril(np.ones([4, 4], bool))
    wanted = _Attend(q, k, v, looks, _Weights(layer, 'output'))
    np.testing.assert_allclose(y, wanted[0], atol=1e-5)
    np.testing.assert_allclose(probs, wanted[1], atol=1e-6)


def test_cross_attention(inference_step):
    layer = _Layer(attention.CrossAttention)
    mask = attention.padding_mask(tf.constant(_SOURCE_PADDINGS))
    memory = layer.Memory(tf.constant(_SOURCE))
    y, probs = layer(tf.constant(_X), memory, mask, return_probs=True)

    w, b = _Weights(layer, 'query')
    q = _X @ w + b
    w, b = _Weights(layer, 'key_value')
    k, v = np.split(_SOURCE @ w + b, 2, axis=-1)
    looks = np.repeat(_SOURCE_PADDINGS[:, np.newaxis] == 0, 4, axis=1)
    wanted = _Attend(q, k, v, looks, _Weights(layer, 'output'))
    np.testing.assert_allclose(y, wanted[0], atol=1e-5)
    np.testing.assert_allclose(probs, wanted[1], atol=1e-6)


@pytest.mark.parametrize('dtype', [tf.float32, tf.float16])
def test_a_query_that_may_look_nowhere_gets_zeros(inference_step, dtype):
    layer = _Layer(attention.CrossAttention, fprop_dtype=dtype)
    mask = attention.padding_mask(tf.constant(_SOURCE_PADDINGS))
    y, probs = layer(tf.constant(_X), layer.Memory(tf.constant(_SOURCE)), mask, return_probs=True)
    assert np.all(probs[2] == 0)
    bias = tf.cast(layer.output.vars.b, dtype)
    np.testing.assert_array_equal(y[2], tf.broadcast_to(bias, [4, _DIM]))


def test_masked_positions_do_not_matter_however_large(inference_step):
    layer = _Layer(attention.SelfAttention)
    mask = attention.padding_mask(tf.constant(_PADDINGS))
    loud = np.where(_PADDINGS[..., np.newaxis] == 1, 1e6, _X)
    found = layer(tf.constant(loud, tf.float32), mask).numpy()
    np.testing.assert_allclose(found[:2, :3], layer(tf.constant(_X), mask)[:2, :3], atol=1e-5)


def test_no_mask_is_a_mask_of_ones(inference_step):
    layer = _Layer(attention.SelfAttention)
    ones = tf.ones([1, 1, 1, 4], tf.bool)
    np.testing.assert_allclose(
        layer(tf.constant(_X), None), layer(tf.constant(_X), ones), atol=1e-6
    )


def test_softmax_is_float32():
    # Logits of 60000 and more overflow where bfloat16 loses all digits.
    q = tf.constant([[[[256.0, 1.0]]]], tf.bfloat16)
    k = tf.constant([[[[256.0, 0.0], [256.0, 1.0]]]], tf.bfloat16)
    _, probs = attention.attend(q, k, k, None, lambda p: p)
    assert probs.dtype == tf.float32


def test_dropout_is_on_the_probabilities(training_step):
    layer = _Layer(attention.CrossAttention, atten_dropout_prob=0.5)
    # With equal values and no dropout every query would get that value.
    ones = tf.ones([1, _HEADS, 2000, _DIM // _HEADS])
    layer.output.vars.w.assign(tf.eye(_DIM))
    layer.output.vars.b.assign(tf.zeros([_DIM]))
    mask = tf.ones([1, 1, 1, 2000], tf.bool)
    y = layer(tf.constant(_X[:1]), NestedMap(key=ones, value=ones), mask).numpy()
    assert y.std() > 0.005
    np.testing.assert_allclose(y, 1, atol=0.15)


def test_rotary_looks_at_distances_alone(inference_step):
    layer = _Layer(attention.SelfAttention, rotary=True)
    _, probs = layer(tf.ones([1, 6, _DIM]), None, return_probs=True)
    logits = np.log(probs.numpy()[0])
    # Equal vectors, so any difference between two keys comes from their distances to the query.
    found = logits[:, 1:, 1:] - logits[:, 1:, 1:2]
    wanted = logits[:, :-1, :-1] - logits[:, :-1, :1]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.ptp(logits[:, 0], axis=-1).max() > 0.1


@pytest.mark.parametrize(
    'dim, heads, near', [(256, 6, '4, 8'), (8, 3, '2, 4'), (8, 0, '1, 2'), (7, 100, '1, 7')]
)
def test_heads_that_do_not_divide(dim, heads, near):
    p = attention.SelfAttention.Params().SetLabel('task.encoder.attention')
    with pytest.raises(hyperparams.ConfigError) as error:
        p.Set(model_dim=dim, num_heads=heads).Instantiate()
    assert str(error.value).startswith(
        f'task.encoder.attention: num_heads={heads} does not divide model_dim={dim}. '
        f'Divisors near it: {near}. Set at '
    )


def test_rotary_needs_heads_of_even_size():
    p = attention.SelfAttention.Params().Set(model_dim=6, num_heads=2, rotary=True)
    with pytest.raises(hyperparams.ConfigError, match='heads of even size, got 3'):
        p.Instantiate()
