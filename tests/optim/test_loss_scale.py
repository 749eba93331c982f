"""Loss scales: how they follow overflows and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.optim import loss_scale


def _Scale(**values):
    scale = loss_scale.LossScale.Params().Set(**values).Instantiate()
    scale.Build()
    return scale


def _Follow(scale, steps):
    """S after each of (finite, max_gradient), updated in one graph."""
    update = tf.function(lambda finite, largest: scale.Update(finite, largest), autograph=False)
    values = []
    for finite, largest in steps:
        update(tf.constant(finite), tf.constant(largest, tf.float32))
        values.append(float(scale.scale))
    assert update.experimental_get_tracing_count() <= 1
    return values


def test_none_is_a_scale_of_one_and_keeps_nothing():
    scale = _Scale(method='none')
    assert _Follow(scale, [(False, 0.0), (True, 1.0)]) == [1.0, 1.0]
    assert scale.State() == {}
    assert scale.overflows_at_floor == 0


def test_static_never_changes():
    scale = _Scale(method='static', initial_scale=8.0)
    assert _Follow(scale, [(False, 0.0), (True, 1.0)]) == [8.0, 8.0]
    assert scale.State() == {}


def test_backoff_falls_at_once_and_rises_after_growth_steps():
    scale = _Scale(initial_scale=8.0, max_scale=16.0, growth_steps=3)
    g, o = (True, 1.0), (False, np.inf)
    #                                 3 good   overflow  2 good, then 0 good steps count again
    assert _Follow(scale, [g, g, g]) == [8.0, 8.0, 16.0]
    assert _Follow(scale, [o, g, g, o]) == [8.0, 8.0, 8.0, 4.0]
    assert _Follow(scale, [g, g, g]) == [4.0, 4.0, 8.0]
    assert _Follow(scale, [g] * 6) == [8.0, 8.0, 16.0, 16.0, 16.0, 16.0]  # the ceiling


class _OpenSeq2SeqBackOff:
    """BackoffScaler of OpenSeq2Seq (optimizers/automatic_loss_scaler.py), in plain Python."""

    def __init__(self, p):
        self.p, self.scale, self.iteration, self.last_overflow = p, p.initial_scale, 0, -1

    def Update(self, finite):
        p = self.p
        if not finite:
            self.scale = np.clip(self.scale / p.factor, p.min_scale, p.max_scale)
            self.last_overflow = self.iteration
        elif (self.iteration - self.last_overflow) % p.growth_steps == 0:
            self.scale = np.clip(self.scale * p.factor, p.min_scale, p.max_scale)
        self.iteration += 1
        return float(self.scale)


class _OpenSeq2SeqLogMax:
    """LogMaxScaler of the same file, with log_max in the place of 2^log_max and of 16."""

    def __init__(self, p):
        self.p, self.n = p, 0
        self.mean = self.slow_mean = self.square = 0.0

    def Update(self, finite, largest):
        p = self.p
        x = np.log2(largest) if finite else p.log_max
        self.n += 1
        self.mean = p.beta1 * self.mean + (1 - p.beta1) * x
        self.slow_mean = p.beta2 * self.slow_mean + (1 - p.beta2) * x
        self.square = p.beta2 * self.square + (1 - p.beta2) * x**2
        slow = 1 - p.beta2**self.n
        sigma = np.sqrt(max(0.0, self.square / slow - (self.slow_mean / slow) ** 2))
        cutoff = self.mean / (1 - p.beta1**self.n) + p.overflow_std_dev * sigma
        return float(np.clip(2.0 ** (p.log_max - cutoff), p.min_scale, p.max_scale))


def test_backoff_is_that_of_openseq2seq():
    p = loss_scale.LossScale.Params().Set(
        initial_scale=2.0**14, max_scale=2.0**14, growth_steps=3, min_scale=2.0**8
    )
    oracle, draw = _OpenSeq2SeqBackOff(p), np.random.default_rng(5)
    steps = [(bool(draw.random() > 0.25), 1.0) for _ in range(80)]
    scale = p.Instantiate()
    scale.Build()
    wanted = [oracle.Update(finite) for finite, _ in steps]
    assert len(set(wanted)) > 4
    assert _Follow(scale, steps) == wanted


def test_logmax_is_that_of_openseq2seq_with_its_formula_corrected():
    # No limit to a rise, and a finite first step: in both, ours differs on purpose.
    p = loss_scale.LossScale.Params().Set(
        method='logmax', beta1=0.9, beta2=0.98, log_max=15.0, factor=2.0**20, max_scale=2.0**30
    )
    oracle, draw = _OpenSeq2SeqLogMax(p), np.random.default_rng(6)
    steps = [(n % 17 != 9, float(np.exp2(draw.normal(-5.0, 1.0)))) for n in range(60)]
    scale = p.Instantiate()
    scale.Build()
    np.testing.assert_allclose(
        _Follow(scale, steps), [oracle.Update(*step) for step in steps], rtol=1e-2
    )


@pytest.mark.parametrize('method', ['backoff', 'logmax'])
def test_a_step_that_is_only_tried_leaves_no_trace(method):
    scale = _Scale(method=method)
    _Follow(scale, [(True, 0.5), (False, np.inf)])
    before = {name: variable.numpy() for name, variable in scale.State().items()}
    for finite in (True, False):
        scale.Update(tf.constant(finite), tf.constant(3.0), keep=tf.constant(True))
    assert {name: variable.numpy() for name, variable in scale.State().items()} == before


def test_the_floor_holds_and_shows():
    scale = _Scale(initial_scale=4.0, min_scale=2.0)
    shown = []
    for finite in (False, False, False, True, False):
        scale.Update(tf.constant(finite))
        shown.append((float(scale.scale), int(scale.overflows_at_floor)))
    assert shown == [(2.0, 0), (2.0, 1), (2.0, 2), (2.0, 0), (2.0, 1)]


def _LogMaxOracle(steps, p):
    """S after each step, statistics in double precision as weighted means of all that was seen."""
    scale, seen, values = p.initial_scale, [], []
    for finite, largest in steps:
        if not finite and not seen:
            scale /= p.factor
        elif not finite or largest > 0:
            seen.append(np.log2(largest) if finite else p.log_max)
            x = np.array(seen)
            ages = np.arange(len(x))[::-1]
            fast, slow = p.beta1**ages, p.beta2**ages
            mean = np.average(x, weights=fast)
            sigma = np.sqrt(
                max(0.0, np.average(x**2, weights=slow) - np.average(x, weights=slow) ** 2)
            )
            wanted = 2.0 ** (p.log_max - (mean + p.overflow_std_dev * sigma))
            scale = min(wanted, scale * p.factor)
        scale = np.clip(scale, p.min_scale, p.max_scale)
        values.append(scale)
    return values


def test_logmax_follows_the_distribution():
    p = loss_scale.LossScale.Params().Set(
        method='logmax', beta1=0.9, beta2=0.95, log_max=15.0, initial_scale=2.0**9
    )
    rng = np.random.default_rng(3)
    steps = [(True, float(np.exp2(rng.normal(-4.0, 1.5)))) for _ in range(60)]
    steps[0] = steps[1] = (False, np.inf)  # before anything is known
    steps[20] = (True, 0.0)
    steps[40] = (False, np.nan)
    scale = p.Instantiate()
    scale.Build()
    got, wanted = _Follow(scale, steps), _LogMaxOracle(steps, p)
    np.testing.assert_allclose(got, wanted, rtol=2e-3)
    assert wanted[1] == 2.0**7
    assert wanted[20] == wanted[19]
    assert wanted[40] < wanted[39] / 2


def test_logmax_of_equal_gradients_aims_at_log_max():
    scale = _Scale(method='logmax', log_max=4.0, initial_scale=2.0**13, beta2=0.9999)
    # x is -10 and sigma 0, so S = 2^(4 + 10): no rounding error may pass for a variance.
    steps = [(True, 2.0**-10)] * 5
    np.testing.assert_allclose(_Follow(scale, steps), [2.0**14] * 5, rtol=2e-2)


def test_logmax_needs_the_largest_gradient():
    scale = _Scale(method='logmax')
    assert scale.needs_max_gradient
    with pytest.raises(ValueError, match='needs max_gradient'):
        scale.Update(tf.constant(True))


@pytest.mark.parametrize('method', ['backoff', 'logmax'])
def test_state_restored_goes_on_as_if_never_stopped(method):
    rng = np.random.default_rng(4)
    steps = [(bool(rng.random() > 0.2), float(rng.gamma(1.0))) for _ in range(20)]
    whole = _Follow(_Scale(method=method, growth_steps=3), steps)
    first = _Scale(method=method, growth_steps=3)
    _Follow(first, steps[:9])
    second = _Scale(method=method, growth_steps=3)
    assert second.State().keys() == first.State().keys()
    for name, variable in second.State().items():
        variable.assign(first.State()[name].numpy())
    assert _Follow(second, steps[9:]) == whole[9:]


@pytest.mark.parametrize('method', ['backoff', 'logmax'])
def test_replicas_share_one_scale(two_replicas, method):
    scale = loss_scale.LossScale.Params().Set(method=method, initial_scale=8.0).Instantiate()
    with two_replicas.scope():
        scale.Build()

    @tf.function(autograph=False)
    def Step(finite):
        scaled = two_replicas.run(lambda: 3.0 * scale.scale)
        scale.Update(finite, tf.constant(2.0**14))
        return scaled

    Step(tf.constant(False))
    scaled = Step(tf.constant(True))
    assert [float(s) for s in two_replicas.experimental_local_results(scaled)] == [12.0, 12.0]
    for variable in scale.State().values():
        copies = [v.numpy() for v in two_replicas.experimental_local_results(variable)]
        assert len(copies) == 2
        assert copies[0] == copies[1]


@pytest.mark.parametrize(
    'values, message',
    [
        (dict(initial_scale=0.5), 'initial_scale=0.5 must be at least min_scale=1.0 and at most'),
        (dict(min_scale=0.0), 'min_scale=0.0 must be above 0'),
        (dict(max_scale=float('inf')), 'max_scale=inf must be finite'),
        (dict(max_scale=2.0**14), 'and at most max_scale=16384.0'),
        (dict(factor=1.0), 'factor=1.0 must be above 1'),
        (dict(growth_steps=0), 'growth_steps=0 must be at least 1'),
        (dict(beta1=1.0), 'beta1=1.0 must be above 0 and below 1'),
    ],
)
def test_what_does_not_fit_is_refused(values, message):
    with pytest.raises(hyperparams.ConfigError, match=message):
        loss_scale.LossScale.Params().Set(**values).Instantiate()


def test_used_before_it_is_built():
    scale = loss_scale.LossScale.Params().Instantiate()
    with pytest.raises(RuntimeError, match='Build must be called first'):
        scale.Update(tf.constant(True))
    scale.Build()
    with pytest.raises(RuntimeError, match='called before'):
        scale.Build()
