"""Learning rate schedules: factors of `train.learning_rate` as functions of the updates so far.

Below, n is the number of updates applied before the present one: 0 in the first. A skipped step
does not count. All values are computed in float32; differences of n are taken in int64.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self


class BaseSchedule:
    """A schedule made from Params."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """The Params of this schedule."""
        return hyperparams.InstantiableParams(cls)

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises hyperparams.Fail(p, ...) if values do not fit each other."""

    def __init__(self, params: hyperparams.Params):
        self.params = params

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        """The factor.

        Args:
          updates: int64 scalar, n. A Python int will do too.

        Returns:
          float32 scalar.
        """
        raise NotImplementedError(f'{type(self).__name__} has no Value.')


class Constant(BaseSchedule):
    """value."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('value', 1.0, 'The factor.')
        return p

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        return tf.constant(self.params.value, tf.float32)


class Transformer(BaseSchedule):
    """model_dim^-0.5 * min((n + 1) * warmup_steps^-1.5, (n + 1)^-0.5), also known as Noam.

    Linear up to (model_dim * warmup_steps)^-0.5 at n + 1 = warmup_steps, then the inverse square
    root. Source: Vaswani et al., 2017 (arXiv 1706.03762), equation 3, with n + 1 as their step_num.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('warmup_steps', 4000, 'Updates until the peak.')
        p.Define('model_dim', 512, 'Width of the model.')
        p.Define('decay_end', None, 'n from which the value stays; None for never.', type=int)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'warmup_steps', 'model_dim', above=0)
        hyperparams.Require(
            p,
            p.decay_end is None or p.decay_end >= p.warmup_steps,
            'decay_end',
            f'at least warmup_steps={p.warmup_steps}',
        )

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        n = tf.cast(updates, tf.int64)
        if p.decay_end is not None:
            n = tf.minimum(n, p.decay_end)
        step = tf.cast(n + 1, tf.float32)
        return p.model_dim**-0.5 * tf.minimum(step * p.warmup_steps**-1.5, tf.math.rsqrt(step))


class SqrtDecay(BaseSchedule):
    """multiplier / sqrt(max(n, warmup_steps)).

    With the defaults and train.learning_rate=1.0, the relative step size that Adafactor was
    published with, min(0.01, 1 / sqrt(n)) (Shazeer and Stern, 2018, arXiv 1804.04235, algorithm 6).
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('warmup_steps', 10_000, 'Updates until the decay begins.')
        p.Define('multiplier', 1.0, 'A factor.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'warmup_steps', above=0)

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        n = tf.maximum(tf.cast(updates, tf.int64), p.warmup_steps)
        return p.multiplier * tf.math.rsqrt(tf.cast(n, tf.float32))


class Linear(BaseSchedule):
    """y0 + (y1 - y0) * x, x = (n - n0) / (n1 - n0) in [0, 1]: constant before n0 and after n1."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('start', (0, 1.0), '(n0, y0).')
        p.Define('limit', REQUIRED, '(n1, y1), with n1 > n0.', type=tuple)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        _CheckInterval(p)

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        x = _Fraction(updates, p.start[0], p.limit[0])
        return p.start[1] + (p.limit[1] - p.start[1]) * x


class Polynomial(Linear):
    """From (n0, y0) to (n1, y1), constant before and after; x = (n - n0) / (n1 - n0) in [0, 1].

    origin 'start': y0 + (y1 - y0) * x^power, flat at the start for a power above 1.
    origin 'limit': y1 + (y0 - y1) * (1 - x)^power, flat at the limit; what others call
    polynomial decay.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('power', 1.0, 'The exponent.')
        p.Define('origin', 'start', 'Where it is flat.', choices=('start', 'limit'))
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.RequireRange(p, 'power', above=0)

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        y0, y1 = p.start[1], p.limit[1]
        x = _Fraction(updates, p.start[0], p.limit[0])
        if p.origin == 'start':
            return y0 + (y1 - y0) * x**p.power
        return y1 + (y0 - y1) * (1.0 - x) ** p.power


class Exponential(BaseSchedule):
    """y0 * (y1 / y0)^x, from (n0, y0) to (n1, y1), constant before and after."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('start', (0, 1.0), '(n0, y0), with y0 > 0.')
        p.Define('limit', REQUIRED, '(n1, y1), with n1 > n0 and y1 > 0.', type=tuple)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        _CheckInterval(p)
        hyperparams.RequireRange(
            p, 'start[1]', 'limit[1]', above=0, note='an exponential never reaches 0'
        )

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        x = _Fraction(updates, p.start[0], p.limit[0])
        return p.start[1] * tf.exp(x * math.log(p.limit[1] / p.start[1]))


class ContinuousLearningRateSchedule(BaseSchedule):
    """max(min, initial_value * 0.5^(max(0, n - start_step) / half_life_steps)).

    Constant until start_step, then halved every half_life_steps, never below min.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('initial_value', 1.0, 'The factor until start_step.')
        p.Define('start_step', 400_000, 'n at which the decay begins.')
        p.Define('half_life_steps', 100_000, 'Updates in which the factor halves.')
        p.Define('min', 0.01, 'The smallest factor.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'half_life_steps', above=0)
        hyperparams.Require(
            p,
            0 <= p.min <= p.initial_value,
            'min',
            f'at least 0 and at most initial_value={p.initial_value}',
        )

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        n = tf.maximum(tf.cast(updates, tf.int64) - p.start_step, 0)
        half_lives = tf.cast(n, tf.float32) / p.half_life_steps
        return tf.maximum(p.min, p.initial_value * tf.exp(-math.log(2.0) * half_lives))


class Cosine(BaseSchedule):
    """final + (initial - final) * (1 + cos(pi * min(1, n / total_steps))) / 2.

    Source: Loshchilov and Hutter, 2017 (arXiv 1608.03983), equation 5, without restarts.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('initial_value', 1.0, 'Factor at n = 0.')
        p.Define('final_value', 0.0, 'Factor from n = total_steps on.')
        p.Define('total_steps', REQUIRED, 'Updates until final_value.', type=int)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'total_steps', above=0)

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        x = _Fraction(updates, 0, p.total_steps)
        half = 0.5 * (p.initial_value - p.final_value)
        return p.final_value + half * (1.0 + tf.cos(math.pi * x))


class PiecewiseConstant(BaseSchedule):
    """values[i] where boundaries[i - 1] <= n < boundaries[i]."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('boundaries', REQUIRED, 'Rising n, at each of which a new value begins.', list)
        p.Define('values', REQUIRED, 'The factors, one more than boundaries.', list)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        if len(p.values) != len(p.boundaries) + 1:
            raise hyperparams.Fail(
                p,
                f'{len(p.boundaries)} boundaries need {len(p.boundaries) + 1} values, '
                f'got {len(p.values)}.',
                key='values',
            )
        for key, types in (('boundaries', (int,)), ('values', (int, float))):
            kind = ' or '.join(t.__name__ for t in types)
            fits = all(_IsNumber(item, types) for item in p.Get(key))
            hyperparams.Require(p, fits, key, f'a list of {kind}')
        rise = all(a < b for a, b in zip(p.boundaries, p.boundaries[1:]))
        hyperparams.Require(p, rise, 'boundaries', 'numbers that rise')

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        p = self.params
        passed = tf.constant(list(p.boundaries), tf.int64) <= tf.cast(updates, tf.int64)
        values = tf.constant([float(value) for value in p.values], tf.float32)
        return values[tf.math.count_nonzero(passed)]


class WarmUp(BaseSchedule):
    """min(1, (n + 1) / warmup_steps) * schedule(n): a linear warm-up in front of any schedule.

    The schedule behind it is not shifted: its n counts from the first update of the run.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('warmup_steps', REQUIRED, 'Updates until the full value.', type=int)
        p.Define('schedule', Constant.Params(), 'The schedule to warm up to.', bound=BaseSchedule)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'warmup_steps', above=0)

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._schedule = params.schedule.Instantiate()

    def Value(self, updates: tf.Tensor) -> tf.Tensor:
        steps = self.params.warmup_steps
        return _Fraction(tf.cast(updates, tf.int64) + 1, 0, steps) * self._schedule.Value(updates)


def _Fraction(updates: tf.Tensor, start: int, limit: int) -> tf.Tensor:
    """(updates - start) / (limit - start), clipped to [0, 1]; float32."""
    passed = tf.clip_by_value(tf.cast(updates, tf.int64) - start, 0, limit - start)
    return tf.cast(passed, tf.float32) / float(limit - start)


def _CheckInterval(p: hyperparams.Params) -> None:
    for key in ('start', 'limit'):
        point = p.Get(key)
        fits = len(point) == 2 and _IsNumber(point[0], (int,)) and _IsNumber(point[1])
        hyperparams.Require(p, fits, key, '(updates, value), an int and a float')
    behind = p.limit[0] > p.start[0]
    hyperparams.Require(p, behind, 'limit', f'behind start={p.start}: n1 > n0')


def _IsNumber(value: Any, types: tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)
