"""The scale of the loss, which keeps small float16 gradients from becoming 0.

The loss is multiplied by it before gradients are taken, and the gradients are divided by it in
float32. A scale that is too large makes some of them overflow; the step is skipped then and the
scale goes down. `loss_scale_optimizer` is who does all that; this is the number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self


class LossScale:
    """A scale S, and how it follows what happens.

    none: S = 1.
    static: S = initial_scale for good.
    backoff: after an overflow S / factor; after growth_steps steps without one S * factor
      (Micikevicius et al., 2018, arXiv 1710.03740, section 3.2). As Keras', with bounds.
    logmax: S such that an overflow is rare if the logarithm of the largest gradient is normally
      distributed; see `LogMaxScale` (Kuchaiev et al., 2018, arXiv 1805.10387).

    In the last two S stays between min_scale and max_scale. An overflow at min_scale cannot be
    answered; `overflows_at_floor` counts these.

        loss_scale = p.Instantiate()
        with strategy.scope():
            loss_scale.Build()
        # in every step, behind all that uses loss_scale.scale
        loss_scale.Update(finite)

    Attributes:
      needs_max_gradient: whether `Update` needs the largest absolute gradient: for logmax.
      adapts: whether S answers to overflows: for backoff and logmax.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """The Params of the loss scale."""
        p = hyperparams.InstantiableParams(cls)
        p.Define(
            'method',
            'backoff',
            'How the scale is found.',
            choices=('none', 'static', 'backoff', 'logmax'),
        )
        p.Define('initial_scale', 2.0**15, 'The scale of the first step.')
        p.Define('min_scale', 1.0, 'The smallest scale.')
        p.Define('max_scale', 2.0**24, 'The largest scale.')
        p.Define('factor', 2.0, 'Of one change of backoff; of the largest rise of logmax.')
        p.Define('growth_steps', 2000, 'backoff: steps without an overflow before it grows.')
        p.Define('log_max', 16.0, 'logmax: log2 of what must not be exceeded; float16 ends at 16.')
        p.Define('beta1', 0.99, 'logmax: decay of the mean.')
        p.Define('beta2', 0.999, 'logmax: decay of the slow mean and the variance.')
        p.Define(
            'overflow_std_dev',
            3.09,
            'logmax: standard deviations between mean and log_max; 3.09 is 1 overflow in 1000.',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if the values do not fit each other."""
        hyperparams.RequireRange(p, 'min_scale', above=0)
        hyperparams.Require(p, p.max_scale < math.inf, 'max_scale', 'finite')
        hyperparams.Require(
            p,
            p.min_scale <= p.initial_scale <= p.max_scale,
            'initial_scale',
            f'at least min_scale={p.min_scale} and at most max_scale={p.max_scale}',
        )
        hyperparams.RequireRange(p, 'factor', above=1)
        hyperparams.RequireRange(p, 'growth_steps', at_least=1)
        hyperparams.RequireRange(p, 'beta1', 'beta2', above=0, below=1)

    def __init__(self, params: hyperparams.Params):
        self.params = params
        self.needs_max_gradient = params.method == 'logmax'
        self.adapts = params.method in ('backoff', 'logmax')
        self._state: dict[str, tf.Variable] = {}

    def Build(self) -> None:
        """Creates the variables. Called once, in the strategy's scope.

        Raises:
          RuntimeError: if it was called before.
        """
        p = self.params
        if self._state:
            raise RuntimeError('LossScale.Build was called before.')
        if not self.adapts:
            return
        self._Create('scale', p.initial_scale)
        self._Create('overflows_at_floor', 0)
        if p.method == 'backoff':
            self._Create('good_steps', 0)
        else:
            for name in ('observations', 'mean', 'slow_mean', 'slow_mean_square'):
                self._Create(name, 0 if name == 'observations' else 0.0)

    @property
    def scale(self) -> Union[tf.Tensor, tf.Variable]:
        """S: float32 scalar, a variable where it can change."""
        if self.params.method == 'none':
            return tf.constant(1.0)
        if self.params.method == 'static':
            return tf.constant(self.params.initial_scale, tf.float32)
        return self._Built()['scale']

    @property
    def overflows_at_floor(self) -> Union[tf.Tensor, tf.Variable]:
        """int64 scalar: how many overflows in a row found S at min_scale; 0 while it can fall."""
        if not self.adapts:
            return tf.constant(0, tf.int64)
        return self._Built()['overflows_at_floor']

    def State(self) -> dict[str, tf.Variable]:
        """{name: variable}: all that a restart needs. Empty for none and static."""
        return dict(self._state)

    def Update(
        self,
        finite: tf.Tensor,
        max_gradient: Optional[tf.Tensor] = None,
        keep: Optional[tf.Tensor] = None,
    ) -> None:
        """Finds the scale of the next step.

        Called in every step, in cross-replica context.

        Args:
          finite: bool scalar, the same for all replicas: whether all gradients of all replicas are.
          max_gradient: float32 scalar, the largest absolute value of the unscaled gradients summed
            over replicas, for logmax; any value when they are not finite.
          keep: bool scalar, whether all is to stay as it is; None for False.

        Raises:
          ValueError: if max_gradient is missing and needed.
        """
        p = self.params
        if not self.adapts:
            return
        state = self._Built()
        old = {name: tf.convert_to_tensor(variable) for name, variable in state.items()}
        if p.method == 'backoff':
            scale, good = BackOffScale(old['scale'], old['good_steps'], finite, p)
            new = {'good_steps': good}
        else:
            if max_gradient is None:
                raise ValueError('LossScale.Update needs max_gradient with method=logmax.')
            scale, new = LogMaxScale(old, finite, max_gradient, p)
        new['scale'] = tf.clip_by_value(scale, p.min_scale, p.max_scale)
        hit = tf.logical_and(tf.logical_not(finite), old['scale'] <= p.min_scale)
        new['overflows_at_floor'] = tf.where(hit, old['overflows_at_floor'] + 1, 0)
        for name, value in new.items():
            state[name].assign(value if keep is None else tf.where(keep, old[name], value))

    def _Create(self, name: str, value: float) -> None:
        self._state[name] = tf.Variable(
            value,
            trainable=False,
            dtype=tf.float32 if isinstance(value, float) else tf.int64,
            name=f'loss_scale_{name}',
        )

    def _Built(self) -> dict[str, tf.Variable]:
        if not self._state:
            raise RuntimeError('LossScale.Build must be called first, in the strategy scope.')
        return self._state


def BackOffScale(
    scale: tf.Tensor, good_steps: tf.Tensor, finite: tf.Tensor, p: hyperparams.Params
) -> tuple[tf.Tensor, tf.Tensor]:
    """Down after an overflow, up after a long time without one.

    Args:
      scale: float32 scalar, S of this step.
      good_steps: int64 scalar, steps without an overflow since S last changed, before this one.
      finite: bool scalar, whether this step is without one.
      p: Params of LossScale.

    Returns:
      S and good_steps for the next step; S without its bounds.
    """
    grows = tf.logical_and(finite, good_steps + 1 >= p.growth_steps)
    change = tf.where(finite, tf.where(grows, p.factor, 1.0), 1.0 / p.factor)
    stays = tf.logical_and(finite, tf.logical_not(grows))
    return scale * change, tf.where(stays, good_steps + 1, 0)


def LogMaxScale(
    old: Mapping[str, tf.Tensor], finite: tf.Tensor, max_gradient: tf.Tensor, p: hyperparams.Params
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """S = 2^(log_max - (mean + overflow_std_dev * sigma)), at most `factor` times the S before.

    With x = log2(max_gradient), or log_max in a step that overflowed:
      mean: bias-corrected moving average of x with beta1,
      sigma^2 = E[x^2] - E[x]^2, both bias-corrected moving averages with beta2.

    An overflow before the first finite gradient says nothing but that S was too large: S / factor.
    A largest gradient of 0 says nothing at all and leaves everything as it is. (OpenSeq2Seq, whose
    formula this is, feeds 2^log_max into the statistics of logarithms, writes 16 for log_max, and
    lets log2(0) into the averages.)

    Args:
      old: scale, observations, mean, slow_mean, slow_mean_square; the averages are kept without
        their bias correction.
      finite: bool scalar.
      max_gradient: float32 scalar, of unscaled gradients.
      p: Params of LossScale.

    Returns:
      S for the next step, without its bounds, and the new statistics by name.
    """
    seen = old['observations'] > 0
    positive = tf.logical_and(finite, max_gradient > 0.0)
    counts = tf.logical_or(positive, tf.logical_and(tf.logical_not(finite), seen))
    # The unused branch of a where must not be nan or inf either.
    x = tf.math.log(tf.where(positive, max_gradient, 1.0)) / math.log(2.0)
    x = tf.where(finite, x, p.log_max)

    observations = old['observations'] + 1
    mean = _Moved(old['mean'], x, p.beta1)
    slow_mean = _Moved(old['slow_mean'], x, p.beta2)
    slow_mean_square = _Moved(old['slow_mean_square'], tf.square(x), p.beta2)
    n = tf.cast(observations, tf.float32)
    correction, slow_correction = _Correction(p.beta1, n), _Correction(p.beta2, n)
    variance = slow_mean_square / slow_correction - tf.square(slow_mean / slow_correction)
    sigma = tf.sqrt(tf.maximum(variance, 0.0))
    log_scale = p.log_max - (mean / correction + p.overflow_std_dev * sigma)
    wanted = tf.minimum(tf.pow(2.0, log_scale), old['scale'] * p.factor)

    unknown = tf.where(finite, old['scale'], old['scale'] / p.factor)
    statistics = {
        'observations': observations,
        'mean': mean,
        'slow_mean': slow_mean,
        'slow_mean_square': slow_mean_square,
    }
    kept = {name: tf.where(counts, value, old[name]) for name, value in statistics.items()}
    return tf.where(counts, wanted, unknown), kept


def _Moved(average: tf.Tensor, value: tf.Tensor, decay: float) -> tf.Tensor:
    return decay * average + (1.0 - decay) * value


def _Correction(decay: float, n: tf.Tensor) -> tf.Tensor:
    """1 - decay^n, without the cancellation that would pass for a variance where decay^n is 1."""
    return -tf.math.expm1(n * math.log(decay))
