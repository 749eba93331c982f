"""Attention of recurrent decoders against NumPy. Padding, precision: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers.recurrent import attention, monotonic_attention
from lingvo_lite.nested_map import NestedMap

BATCH, TIME, SOURCE, QUERY, DIM, HIDDEN = 3, 4, 7, 3, 2, 5
_RNG = np.random.default_rng(0)
QUERIES = _RNG.normal(size=[BATCH, TIME, QUERY]).astype(np.float32)
VALUES = _RNG.normal(size=[BATCH, SOURCE, DIM]).astype(np.float32)
LENGTHS = np.array([7, 4, 0])
PADDINGS = (np.arange(SOURCE) >= LENGTHS[:, None]).astype(np.float32)

KINDS = {
    'dot': attention.DotAttention.Params(),
    'additive': attention.AdditiveAttention.Params(),
    'normalized': attention.AdditiveAttention.Params().Set(normalized=True),
    'location': attention.LocationSensitiveAttention.Params().Set(cumulative=False),
    'coverage': attention.LocationSensitiveAttention.Params(),
    'monotonic': monotonic_attention.MonotonicAttention.Params(),
}
for _name in ('location', 'coverage'):
    KINDS[_name].Set(location_filters=2, location_kernel_size=3)


def _Built(name, **kwargs):
    """A layer with random values, and the values."""
    p = KINDS[name].Copy().Set(source_dim=DIM, query_dim=QUERY, hidden_dim=HIDDEN, **kwargs)
    layer = p.Instantiate()
    rng = np.random.default_rng(1)
    for variable in layer.AllVariables().values():
        variable.assign(rng.normal(size=variable.shape))
    return layer, NestedMap({k: v.numpy() for k, v in layer.AllVariables().items()})


def _Sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _Softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def _Energies(name, v, query, values, seen):
    """For one query: [s]. `seen`: [s], what the location features are made of."""
    q, keys = query @ v.w_query, values @ v.w_source
    if name == 'dot':
        return keys @ q / np.sqrt(HIDDEN)
    terms = q + keys + v.b
    if 'filters' in v:
        padded = np.pad(seen, 1)
        windows = np.stack([padded[i : i + len(seen)] for i in range(3)], axis=1)
        terms = terms + windows @ v.filters[:, 0] @ v.w_location
    direction = v.g * v.v / np.linalg.norm(v.v) if 'g' in v else v.v
    return np.tanh(terms) @ direction


def _Stops(p, last):
    """Probability of each stop, by going through all of the paths."""
    probs = np.zeros(len(p))
    for start, reached in enumerate(last):
        for s in range(start, len(p)):
            probs[s] += reached * p[s]
            reached *= 1 - p[s]
    return probs


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('name', KINDS)
def test_contexts(name, training):
    if name == 'monotonic':
        layer, v = _Built(name, hard=False)
    else:
        layer, v = _Built(name)
    with step.Context(training=training):
        found = layer(*map(tf.constant, (QUERIES, VALUES, PADDINGS)))
    for row, length in enumerate(LENGTHS):
        if not length:
            np.testing.assert_array_equal(found[row], 0)
            continue
        values = VALUES[row, :length]
        seen, last = np.zeros(length), np.eye(length)[0]
        for t in range(TIME):
            energies = _Energies(name, v, QUERIES[row, t], values, seen)
            if name == 'monotonic':
                probs = last = _Stops(_Sigmoid(energies + v.r), last)
            else:
                probs = _Softmax(energies)
            seen = seen + probs if name == 'coverage' else probs
            np.testing.assert_allclose(found[row, t], probs @ values, atol=1e-4)


@pytest.mark.parametrize('name', KINDS)
def test_beams_share_a_memory(inference_step, name):
    """Rows side by side look at one memory, and are as rows with a memory each."""
    layer, _ = _Built(name)
    beams = 2
    queries = tf.constant(_RNG.normal(size=[BATCH * beams, QUERY]).astype(np.float32))

    def Run(times, beams):
        memory = layer.Memory(
            *(tf.constant(np.repeat(x, times, axis=0)) for x in (VALUES, PADDINGS))
        )
        state = layer.InitStates(memory).Transform(lambda x: tf.repeat(x, beams, axis=0))
        outputs = []
        for scale in (1.0, -2.0):
            context, probs, state = layer.ExtendStep(scale * queries, memory, state)
            outputs += [context, probs]
        return outputs

    for shared, own in zip(Run(1, beams), Run(beams, 1)):
        np.testing.assert_allclose(shared, own, atol=1e-5)


@pytest.mark.parametrize('name', KINDS)
def test_probabilities(name, inference_step):
    layer, _ = _Built(name)
    memory = layer.Memory(tf.constant(VALUES), tf.constant(PADDINGS))
    _, probs, _ = layer.ExtendStep(tf.constant(QUERIES[:, 0]), memory, layer.InitStates(memory))
    assert probs.dtype == tf.float32
    np.testing.assert_array_equal(probs.numpy()[PADDINGS == 1], 0)
    if name != 'monotonic':
        np.testing.assert_allclose(tf.reduce_sum(probs, axis=1), [1, 1, 0], atol=1e-6)


def test_a_location_kernel_has_a_middle():
    with pytest.raises(hyperparams.ConfigError, match='location_kernel_size=4 must be odd'):
        _Built('location', location_kernel_size=4)
