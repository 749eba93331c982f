"""Every schedule against its formula in NumPy double precision."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import lingvo_lite.optim
from lingvo_lite import hyperparams
from lingvo_lite.optim import schedules
from lingvo_lite.testing import public_classes


def _Interval(start, limit):
    (n0, y0), (n1, y1) = start, limit
    return lambda n: np.clip((n - n0) / (n1 - n0), 0, 1), y0, y1


def _Linear(n, start=(0, 1.0), limit=None):
    x, y0, y1 = _Interval(start, limit)
    return y0 + (y1 - y0) * x(n)


def _Polynomial(n, power, origin, start=(0, 1.0), limit=None):
    x, y0, y1 = _Interval(start, limit)
    return (
        y0 + (y1 - y0) * x(n) ** power
        if origin == 'start'
        else y1 + (y0 - y1) * (1 - x(n)) ** power
    )


def _Exponential(n, start=(0, 1.0), limit=None):
    x, y0, y1 = _Interval(start, limit)
    return y0 * (y1 / y0) ** x(n)


def _Transformer(n, warmup_steps, model_dim, decay_end=np.inf):
    step = min(n, decay_end) + 1
    return model_dim**-0.5 * min(step * warmup_steps**-1.5, step**-0.5)


def _HalfLife(n, start_step, half_life_steps, min, initial_value=1.0):
    return max(min, initial_value * 0.5 ** (max(0, n - start_step) / half_life_steps))


def _Cosine(n, total_steps, initial_value=1.0, final_value=0.0):
    x = min(1.0, n / total_steps)
    return final_value + (initial_value - final_value) * (1 + np.cos(np.pi * x)) / 2


def _Piecewise(n, boundaries, values):
    return values[sum(n >= b for b in boundaries)]


_CASES = [
    (schedules.Constant, lambda n, value: value, dict(value=0.3)),
    (schedules.Transformer, _Transformer, dict(warmup_steps=10, model_dim=64)),
    (schedules.Transformer, _Transformer, dict(warmup_steps=10, model_dim=64, decay_end=30)),
    (
        schedules.SqrtDecay,
        lambda n, warmup_steps, multiplier: multiplier / np.sqrt(max(n, warmup_steps)),
        dict(warmup_steps=20, multiplier=3.0),
    ),
    (schedules.Linear, _Linear, dict(start=(5, 0.2), limit=(25, 2.0))),
    (schedules.Polynomial, _Polynomial, dict(limit=(40, 0.1), power=2.0, origin='start')),
    (schedules.Polynomial, _Polynomial, dict(limit=(40, 0.1), power=0.5, origin='limit')),
    (schedules.Exponential, _Exponential, dict(start=(10, 2.0), limit=(40, 0.02))),
    (
        schedules.ContinuousLearningRateSchedule,
        _HalfLife,
        dict(start_step=12, half_life_steps=7, min=0.05, initial_value=2.0),
    ),
    (schedules.Cosine, _Cosine, dict(total_steps=40, initial_value=1.5, final_value=0.25)),
    (
        schedules.PiecewiseConstant,
        _Piecewise,
        dict(boundaries=[3, 10, 40], values=[1, 0.5, 0.25, 0.0]),
    ),
]
_AT = [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 19, 25, 26, 29, 30, 31, 39, 40, 41, 1000, 3_000_000]


def test_every_schedule_has_a_formula():
    # WarmUp stands in front of each of them in a test of its own.
    known = {schedules.BaseSchedule, schedules.WarmUp, *(case[0] for case in _CASES)}
    found = public_classes.Below(lingvo_lite.optim, schedules.BaseSchedule)
    assert [name for name, cls in found.items() if cls not in known] == []
    assert len(found) > 8


@pytest.mark.parametrize('cls, formula, values', _CASES)
def test_values_follow_the_formula_in_one_graph(cls, formula, values):
    schedule = cls.Params().Set(**values).Instantiate()
    graph = tf.function(schedule.Value, autograph=False)
    for n in _AT:
        value = graph(tf.constant(n, tf.int64))
        assert value.dtype == tf.float32
        assert value.shape == []
        np.testing.assert_allclose(value, formula(n, **values), rtol=3e-6, atol=1e-7)
    assert graph.experimental_get_tracing_count() == 1


@pytest.mark.parametrize('cls, formula, values', _CASES)
def test_warm_up_stands_in_front_of_any(cls, formula, values):
    p = schedules.WarmUp.Params().Set(warmup_steps=10, schedule=cls.Params().Set(**values))
    schedule = p.Instantiate()
    for n in _AT:
        wanted = min(1.0, (n + 1) / 10) * formula(n, **values)
        np.testing.assert_allclose(schedule.Value(n), wanted, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize('cls, formula, values', _CASES)
def test_params_survive_text(cls, formula, values):
    p = cls.Params().Set(**values)
    assert cls.Params().FromText(p.ToText()) == p


def test_differences_are_exact_beyond_what_float32_counts():
    # 2^25 + 3 is no float32; the fraction would be 0.4 or 0.8 of what it should be.
    start = 2**25
    p = schedules.Linear.Params().Set(start=(start, 0.0), limit=(start + 5, 1.0))
    np.testing.assert_allclose(p.Instantiate().Value(tf.constant(start + 3, tf.int64)), 0.6)


def test_the_transformer_peak_is_at_warmup_steps():
    schedule = schedules.Transformer.Params().Set(warmup_steps=8, model_dim=4).Instantiate()
    values = [float(schedule.Value(n)) for n in range(30)]
    assert int(np.argmax(values)) == 7  # the eighth update
    np.testing.assert_allclose(max(values), (4 * 8) ** -0.5, rtol=1e-6)


@pytest.mark.parametrize(
    'cls, values, message',
    [
        (schedules.Transformer, dict(warmup_steps=0), r'warmup_steps=0 must be above 0'),
        (
            schedules.Transformer,
            dict(warmup_steps=9, decay_end=8),
            r'decay_end=8 must be at least warmup_steps=9',
        ),
        (schedules.Linear, dict(limit=(0, 1.0)), r'limit=\(0, 1.0\) must be behind'),
        (schedules.Linear, dict(limit=(1.5, 1.0)), r'limit=.* must be \(updates, value\)'),
        (schedules.Linear, dict(limit=(3, 1.0, 2)), r'limit=.* must be \(updates, value\)'),
        (schedules.Polynomial, dict(limit=(3, 0.0), power=0.0), r'power=0.0 must be above'),
        (schedules.Exponential, dict(limit=(3, 0.0)), r'limit\[1\]=0.0 must be above 0'),
        (
            schedules.ContinuousLearningRateSchedule,
            dict(min=2.0),
            r'min=2.0 must be at least 0 and at most',
        ),
        (schedules.Cosine, dict(total_steps=-1), r'total_steps=-1 must be above 0'),
        (schedules.PiecewiseConstant, dict(boundaries=[1], values=[1.0]), r'need 2 values, got 1'),
        (
            schedules.PiecewiseConstant,
            dict(boundaries=[2, 2], values=[1.0] * 3),
            r'must be numbers that rise',
        ),
        (
            schedules.PiecewiseConstant,
            dict(boundaries=[0.5], values=[1.0] * 2),
            r'boundaries=\[0.5\] must be a list of int',
        ),
        (schedules.WarmUp, dict(warmup_steps=0), r'warmup_steps=0 must be above 0'),
    ],
)
def test_what_does_not_fit_is_refused(cls, values, message):
    with pytest.raises(hyperparams.ConfigError, match=message):
        cls.Params().Set(**values).Instantiate()


def test_the_schedule_behind_a_warm_up_is_checked_with_its_path():
    p = schedules.WarmUp.Params().Set(warmup_steps=3, schedule=schedules.Cosine.Params())
    p.schedule.total_steps = 0
    with pytest.raises(hyperparams.ConfigError, match=r'schedule: total_steps=0'):
        p.Instantiate()
