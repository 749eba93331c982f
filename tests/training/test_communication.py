"""What travels between replicas, and as what."""

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.optim import optimizers
from lingvo_lite.training import communication


def _Params(tiny, **options):
    options = {f'train.communication.{key}': value for key, value in options.items()}
    settings = {'train.optimizer': optimizers.Adam.Params(), 'by_row': True, 'train.ema_decay': 0.9}
    return tiny.Params(**settings, **options)


def _Trained(tiny, strategy, p, steps=3):
    learner = tiny.Learner(p, strategy)
    for seed in range(steps):
        learner.TrainStep([tiny.Batch(seed=2 * seed), tiny.Batch(seed=2 * seed + 1, fill=2)])
    return learner


@pytest.fixture(scope='module')
def plain(tiny, two_replicas):
    """What three steps with the defaults lead to."""
    return tiny.Values(_Trained(tiny, two_replicas, _Params(tiny)).State())


def _OnTwo(strategy, values):
    """SumAsFloat16 of [gradient of replica 0, of replica 1] and [1., 2.] on both replicas."""

    @tf.function(autograph=False)
    def Run(first, second):
        def OnReplica(value):
            options = tf.distribute.experimental.CommunicationOptions()
            return communication.SumAsFloat16([value], tf.constant([1.0, 2.0]), options)

        each = iter([first, second])
        value = strategy.experimental_distribute_values_from_function(lambda _: next(each))
        return strategy.run(OnReplica, args=(value,))

    gradients, own = Run(*(tf.constant(v, tf.float32) for v in values))
    for copy in strategy.experimental_local_results(own):
        np.testing.assert_array_equal(copy, [2.0, 4.0])
    first, second = (v.numpy() for v in strategy.experimental_local_results(gradients[0]))
    np.testing.assert_array_equal(first, second)
    return first


@pytest.mark.parametrize('size', [1e-20, 1e-5, 1.0, 1e20])
def test_float16_gradients_keep_their_size(two_replicas, size):
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=50).astype(np.float32) * size for _ in range(2))
    found = _OnTwo(two_replicas, (one, two))
    np.testing.assert_allclose(found, one + two, rtol=1e-3, atol=2e-3 * size)
    assert np.any(found != one + two)  # they did travel as float16


def test_nothing_and_infinity_stay_what_they_are(two_replicas):
    zeros = np.zeros(3, np.float32)
    np.testing.assert_array_equal(_OnTwo(two_replicas, (zeros, zeros)), zeros)
    largest = np.full(3, 3e38, np.float32)
    assert not np.isfinite(_OnTwo(two_replicas, (largest, largest))).any()
    for bad in (np.inf, np.nan):
        found = _OnTwo(two_replicas, (zeros, np.array([1.0, bad, 2.0], np.float32)))
        assert not np.isfinite(found[1])


def test_float16_gradients_train_to_nearly_the_same(tiny, two_replicas, plain):
    learner = _Trained(tiny, two_replicas, _Params(tiny, float16_gradients=True))
    state = learner.State()
    found = tiny.Values(state)
    tiny.AssertClose(found, plain, rtol=2e-3, atol=1e-3)
    assert any(np.any(found[name] != plain[name]) for name in found)
    for name, variable in state.items():
        first, second = two_replicas.experimental_local_results(variable)
        np.testing.assert_array_equal(first, second, err_msg=name)
    assert learner.num_traces == 1


def test_an_overflow_on_one_replica_is_seen_through_float16(tiny, two_replicas):
    p = _Params(tiny, float16_gradients=True).Set(fprop_dtype=tf.float16)
    learner = tiny.Learner(p, two_replicas)
    bad = [tiny.Batch(seed=0), tiny.Batch(seed=1)]
    bad[1].x[0] = 1e6  # finite in float32, inf in float16
    before = tiny.Values(learner.task.AllVariables())
    assert not learner.TrainStep(bad).Read().finite
    for name, value in tiny.Values(learner.task.AllVariables()).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert learner.TrainStep([tiny.Batch(seed=0), tiny.Batch(seed=1)]).Read().finite


def test_one_replica_sends_nothing(tiny):
    found = []
    for compressed in (False, True):
        learner = tiny.Learner(_Params(tiny, float16_gradients=compressed))
        learner.TrainStep([tiny.Batch()])
        found.append(tiny.Values(learner.State()))
    tiny.AssertClose(*found, rtol=0, atol=0)


def test_packs_change_nothing_but_how_it_travels(tiny, two_replicas, plain, monkeypatch):
    seen = []
    make = tf.distribute.experimental.CommunicationOptions
    monkeypatch.setattr(
        tf.distribute.experimental,
        'CommunicationOptions',
        lambda **options: seen.append(options) or make(**options),
    )
    options = {'bytes_per_pack': 16, 'implementation': 'ring', 'timeout_seconds': 60.0}
    learner = _Trained(tiny, two_replicas, _Params(tiny, **options))
    tiny.AssertClose(tiny.Values(learner.State()), plain)
    assert seen and all(each == options for each in seen)


@pytest.mark.parametrize('key', ['bytes_per_pack', 'timeout_seconds'])
def test_what_cannot_be_meant(tiny, key):
    with pytest.raises(
        hyperparams.ConfigError, match=f'communication.{key}=-1.* must be at least 0'
    ):
        tiny.Learner(_Params(tiny, **{key: -1 if key == 'bytes_per_pack' else -1.0}))


def test_the_defaults_are_those_of_tf_distribute(tiny):
    found = communication.Options(tiny.Params().train.communication)
    default = tf.distribute.experimental.CommunicationOptions()
    assert vars(found) == vars(default)
