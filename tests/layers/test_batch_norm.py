"""Batch norm, against NumPy. Padding, replicas and low precision: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers import base, batch_norm

_RNG = np.random.default_rng(0)
_PADDINGS = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]], np.float32)


def _Layer(**kwargs):
    layer = batch_norm.BatchNorm.Params().Set(model_dim=3, **kwargs).Instantiate()
    layer.vars.scale.assign([1.0, 2.0, 3.0])
    layer.vars.bias.assign([0.0, 1.0, -1.0])
    return layer


def _Input(*inner):
    x = _RNG.normal(5.0, 2.0, size=[3, 4, *inner, 3]).astype(np.float32)
    x[_PADDINGS > 0] = 1e6
    return x


@pytest.mark.parametrize('inner', [(), (5,)])
def test_training_takes_the_statistics_of_what_is_no_padding(training_step, inner):
    layer, x = _Layer(), _Input(*inner)
    real = x[_PADDINGS == 0].reshape(-1, 3)
    y = layer(tf.constant(x), tf.constant(_PADDINGS)).numpy()[_PADDINGS == 0]
    wanted = (x[_PADDINGS == 0] - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-3)
    np.testing.assert_allclose(y, wanted * [1, 2, 3] + [0, 1, -1], atol=1e-4)


def test_moving_averages_follow_and_are_used_when_not_training():
    layer, x = _Layer(decay=0.9), _Input()
    real = x[_PADDINGS == 0]
    mean, variance = np.zeros(3), np.ones(3)
    for number in range(3):
        with step.Context(training=True, step=number):
            layer(tf.constant(x), tf.constant(_PADDINGS))
        mean = 0.9 * mean + 0.1 * real.mean(axis=0)
        variance = 0.9 * variance + 0.1 * real.var(axis=0)
    np.testing.assert_allclose(layer.vars.moving_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(layer.vars.moving_variance, variance, rtol=1e-4)
    with step.Context(training=False):
        y = layer(tf.constant(x), tf.constant(_PADDINGS)).numpy()[_PADDINGS == 0]
    wanted = (real - mean) / np.sqrt(variance + 1e-3) * [1, 2, 3] + [0, 1, -1]
    np.testing.assert_allclose(y, wanted, atol=1e-3)
    np.testing.assert_allclose(layer.vars.moving_mean, mean, rtol=1e-4)


def test_a_batch_of_padding_changes_nothing(training_step):
    layer = _Layer()
    y = layer(tf.constant(_Input()), tf.ones([3, 4]))
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(layer.vars.moving_mean, np.zeros(3))
    np.testing.assert_array_equal(layer.vars.moving_variance, np.ones(3))


def test_a_large_mean_costs_no_precision(training_step):
    x = _RNG.normal(size=[3, 4, 3]).astype(np.float32)
    layer = _Layer()
    small = layer(tf.constant(x), tf.zeros([3, 4]))
    large = layer(tf.constant(x + 4096.0), tf.zeros([3, 4]))
    np.testing.assert_allclose(large, small, atol=1e-2)


@pytest.mark.parametrize('graph', [False, True])
def test_remat_moves_the_averages_once(graph):
    layer, x = _Layer(), tf.constant(_Input())

    def Run():
        with step.Context(training=True), tf.GradientTape() as tape:
            y = base.Remat(layer, x, tf.constant(_PADDINGS))
            return tape.gradient(tf.reduce_sum(y**2), layer.vars.scale)

    gradient = (tf.function(Run, autograph=False) if graph else Run)()
    assert np.abs(gradient).max() > 0
    mean = x.numpy()[_PADDINGS == 0].mean(axis=0)
    np.testing.assert_allclose(layer.vars.moving_mean, 0.01 * mean, rtol=1e-4)


def test_it_is_not_regularized_and_its_statistics_are_not_trained():
    layer = _Layer()
    assert layer.RegularizedPaths() == set()
    assert set(layer.TrainableVariables()) == {'scale', 'bias'}
    assert set(layer.AllVariables()) == {'scale', 'bias', 'moving_mean', 'moving_variance'}


def test_decay_is_below_1():
    with pytest.raises(hyperparams.ConfigError, match='decay=1.0 must be at least 0 and below 1'):
        _Layer(decay=1.0)


def test_remat_on_replicas(two_replicas):
    x = tf.constant(_Input())

    def Results(remat):
        with two_replicas.scope():
            layer = _Layer()

        def Replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = x * (1.0 + tf.cast(replica, tf.float32))
            with step.Context(training=True, replica=replica), tf.GradientTape() as tape:
                tape.watch(own)
                args = own, tf.constant(_PADDINGS)
                y = base.Remat(layer, *args) if remat else layer(*args)
                loss = tf.reduce_sum((y * (1.0 - _PADDINGS)[:, :, np.newaxis]) ** 3)
                return tape.gradient(loss, [own, layer.vars.scale])

        run = tf.function(lambda: two_replicas.run(Replica), autograph=False)
        local = two_replicas.experimental_local_results
        gradients = [part.numpy() for g in run() for part in local(g)]
        return [*gradients, layer.vars.moving_mean.numpy()]

    for found, wanted in zip(Results(True), Results(False)):
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
