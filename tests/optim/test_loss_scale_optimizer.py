"""LossScaleOptimizer beside the class of Keras that has its name, and what it does besides."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.optim import clipping, optimizers
from lingvo_lite.optim.loss_scale import LossScale
from lingvo_lite.optim.loss_scale_optimizer import LossScaleOptimizer

_RATE = 0.25


def _Gradient(w, x, scale_loss):
    """The gradient of the scaled loss sum(w x)."""
    with tf.GradientTape() as tape:
        loss = scale_loss(tf.reduce_sum(w * x))
    return tape.gradient(loss, w)


class _Ours:
    """A variable that is trained under a loss scale."""

    def __init__(self, **values):
        self.w = tf.Variable([1.0, -2.0])
        self.optimizer = LossScaleOptimizer(
            [optimizers.SGD.Params().Instantiate()],
            LossScale.Params().Set(**values).Instantiate(),
        )
        self.optimizer.build([{'w': self.w}])
        self.step = tf.function(self._Step, autograph=False)

    def _Step(self, x):
        scaled = _Gradient(self.w, x, self.optimizer.scale_loss)
        gradients = self.optimizer.unscale_gradients({'w': scaled})
        norm, largest = clipping.GlobalNorm(gradients), clipping.MaxAbs(gradients)
        finite = self.optimizer.apply(gradients, [tf.constant(_RATE)], [norm], largest)
        return scaled, finite


def test_scales_and_variables_are_those_of_keras():
    """One device, backoff: the same overflows, the same sequence."""
    ours = _Ours(growth_steps=3)
    w = tf.Variable([1.0, -2.0])
    theirs = keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.SGD(_RATE), dynamic_growth_steps=3
    )
    theirs.build([w])
    assert ours.optimizer.initial_scale == theirs.initial_scale
    assert ours.optimizer.dynamic_growth_steps == theirs.dynamic_growth_steps
    draw, scales = np.random.default_rng(7), []
    for _ in range(60):
        x = draw.normal(size=2).astype(np.float32)
        x[draw.integers(2)] *= np.inf if draw.random() < 0.2 else 1.0
        scaled, finite = ours.step(tf.constant(x))
        wanted = _Gradient(w, tf.constant(x), theirs.scale_loss)
        np.testing.assert_array_equal(scaled, wanted)
        assert finite == np.isfinite(x).all()
        theirs.apply([wanted], [w])
        scales.append(float(ours.optimizer.dynamic_scale))
        assert scales[-1] == float(theirs.dynamic_scale)
        np.testing.assert_array_equal(ours.w, w)
    state = ours.optimizer.loss_scale.State()
    assert state['good_steps'] == theirs.step_counter.numpy()
    assert len(set(scales)) > 4
    assert ours.step.experimental_get_tracing_count() == 1


def test_it_has_a_floor_which_keras_has_not():
    ours = _Ours(initial_scale=2.0, min_scale=1.0)
    seen = []
    for _ in range(3):
        ours.step(tf.constant([np.inf, 0.0]))
        floor = ours.optimizer.loss_scale.overflows_at_floor
        seen.append((float(ours.optimizer.dynamic_scale), int(floor)))
    assert seen == [(1.0, 0), (1.0, 1), (1.0, 2)]


@pytest.mark.parametrize(
    ('method', 'initial', 'later'),
    [('none', 1.0, 1.0), ('static', 8.0, 8.0), ('logmax', 8.0, 16.0)],
)
def test_the_other_methods(method, initial, later):
    ours = _Ours(method=method, initial_scale=8.0)
    assert ours.optimizer.initial_scale == ours.optimizer.dynamic_scale == initial
    scaled, finite = ours.step(tf.constant([3.0, 4.0]))
    assert finite
    np.testing.assert_array_equal(scaled, [3.0 * initial, 4.0 * initial])
    np.testing.assert_array_equal(ours.w, [1.0 - 3.0 * _RATE, -2.0 - 4.0 * _RATE])
    assert ours.optimizer.dynamic_scale == later


def test_a_step_has_one_scale_even_if_another_is_next():
    optimizer = _Ours(initial_scale=8.0).optimizer
    assert optimizer.scale_loss(tf.constant(3.0), scale=tf.constant(2.0)) == 6.0
    found = optimizer.unscale_gradients({'a': tf.constant(6.0), 'b': None}, tf.constant(2.0))
    assert found == {'a': 3.0, 'b': None}


def test_unscaling_makes_means_of_sums():
    optimizer = _Ours(initial_scale=8.0).optimizer
    for weight, mean in ((4.0, 2.0), (0.0, 0.0)):
        found = optimizer.unscale_gradients({'a': tf.constant(64.0)}, weight=tf.constant(weight))
        assert found['a'] == mean


def test_all_optimizers_skip_together_and_nothing_changes_while_trying():
    variables = [{'a': tf.Variable(1.0)}, {'b': tf.Variable(1.0)}]
    inner = [optimizers.SGD.Params().Instantiate(), optimizers.Momentum.Params().Instantiate()]
    scale = LossScale.Params().Set(initial_scale=8.0).Instantiate()
    optimizer = LossScaleOptimizer(inner, scale)
    optimizer.build(variables)
    called = []

    def Apply(a, trying=False):
        gradients = {'a': tf.constant(a), 'b': tf.constant(1.0)}
        called.clear()
        finite = optimizer.apply(
            gradients,
            [tf.constant(0.5), tf.constant(0.25)],
            [clipping.GlobalNorm(gradients)],
            trying=tf.constant(trying),
            also=lambda: called.append('also'),
            instead=lambda: called.append('instead'),
        )
        values = [float(v) for each in variables for v in each.values()]
        return bool(finite), called[0], values, float(optimizer.dynamic_scale)

    assert Apply(np.inf, trying=True) == (False, 'instead', [1.0, 1.0], 8.0)
    assert Apply(1.0, trying=True) == (True, 'instead', [1.0, 1.0], 8.0)
    assert Apply(np.inf) == (False, 'instead', [1.0, 1.0], 4.0)
    assert Apply(1.0) == (True, 'also', [0.5, 0.75], 4.0)


def test_apply_before_build():
    optimizer = LossScaleOptimizer([], LossScale.Params().Instantiate())
    with pytest.raises(RuntimeError, match='build must be called before apply'):
        optimizer.apply({}, [], [tf.constant(1.0)])
