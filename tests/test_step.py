"""The step context and its seeds."""

from __future__ import annotations

import itertools
import threading

import pytest
import tensorflow as tf

from lingvo_lite import step


def _Activation(path='a', extra=None, calls=1, **context):
    with step.Context(training=True, **context):
        for _ in range(calls):
            seed = step.ActivationSeed(path, extra)
    return tuple(seed.numpy().tolist())


def _Weight(path='a', **context):
    with step.Context(training=True, **context):
        return tuple(step.WeightSeed(path).numpy().tolist())


def test_asking_without_a_context_is_an_error():
    with pytest.raises(RuntimeError, match='outside of a step context'):
        step.Current()


def test_the_innermost_context_counts():
    with step.Context(training=True) as outer:
        with step.Context(training=False) as inner:
            assert step.Current() is inner
        assert step.Current() is outer


def test_a_context_is_left_when_an_error_passes():
    with pytest.raises(KeyError), step.Context(training=True):
        raise KeyError
    with pytest.raises(RuntimeError):
        step.Current()


def test_other_threads_do_not_see_it():
    seen = []

    def Look():
        try:
            step.Current()
        except RuntimeError:
            seen.append('none')

    with step.Context(training=True):
        thread = threading.Thread(target=Look)
        thread.start()
        thread.join()
    assert seen == ['none']


def test_activation_seeds_are_a_function_of_their_key():
    assert _Activation(step=4, seed=2, micro_batch=1, replica=3) == _Activation(
        step=tf.constant(4, tf.int64), seed=2, micro_batch=1, replica=tf.constant(3)
    )


def test_activation_seeds_differ_by_every_part_of_the_key():
    keys = itertools.product(
        ['a', 'b'], [1, 2], [0, 1, 2, 2**31 - 1], [0, 1, 2], [0, 1], [0, 1], [None, 0, 1]
    )
    seeds = [
        _Activation(
            path, extra, calls, step=at, replica=replica, micro_batch=micro_batch, seed=seed
        )
        for path, calls, at, replica, micro_batch, seed, extra in keys
    ]
    assert len(seeds) == 576
    assert len(set(seeds)) == len(seeds)


def test_weight_seeds_are_equal_on_replicas_and_micro_batches():
    wanted = _Weight(step=4)
    assert _Weight(step=4, replica=1) == wanted
    assert _Weight(step=4, micro_batch=1) == wanted


def test_weight_seeds_do_not_count_calls():
    with step.Context(training=True):
        first, second = step.WeightSeed('a'), step.WeightSeed('a')
    assert first.numpy().tolist() == second.numpy().tolist()


def test_weight_seeds_differ_by_path_step_and_seed():
    seeds = [
        _Weight(path, step=at, seed=seed)
        for path in ['a', 'b', 'c']
        for at in range(20)
        for seed in (0, 1)
    ]
    assert len(set(seeds)) == len(seeds)


def test_replicas_of_a_strategy_draw_differently_over_activations_only(two_replicas):
    @tf.function(autograph=False)
    def Run():
        def Replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            with step.Context(training=True, step=1, replica=replica):
                return step.ActivationSeed('a'), step.WeightSeed('a')

        return two_replicas.run(Replica)

    activation, weight = Run()
    first, second = (
        x.numpy().tolist() for x in two_replicas.experimental_local_results(activation)
    )
    assert first != second
    first, second = (x.numpy().tolist() for x in two_replicas.experimental_local_results(weight))
    assert first == second


def test_initial_seeds_depend_on_seed_and_path_alone():
    assert step.InitSeed('a/w', 3) == step.InitSeed('a/w', 3)
    assert len({step.InitSeed(path, seed) for path in ('a/w', 'a/b') for seed in (0, 1)}) == 4


def test_what_is_repeated_draws_the_same_and_counts_once():
    with step.Context(training=True) as context:
        first = step.ActivationSeed('a').numpy().tolist()

        def Compute():
            return step.ActivationSeed('a').numpy().tolist(), context.recomputing

        compute = context.Repeatable(Compute)
        second, again = compute()
        third = step.ActivationSeed('a').numpy().tolist()
        assert (again, context.recomputing) == (False, False)
        assert compute() == compute() == (second, True)
        fourth = step.ActivationSeed('a').numpy().tolist()
        assert not context.recomputing
    seeds = [first, second, third, fourth]
    assert seeds == [list(_Activation(calls=n)) for n in (1, 2, 3, 4)]
