"""Every optimizer against its published update in NumPy, and what a restart and replicas see."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import lingvo_lite.optim
from lingvo_lite import hyperparams
from lingvo_lite.optim import optimizers
from lingvo_lite.testing import public_classes

_SHAPES = {
    'encoder/attention/w': [3, 4],
    'encoder/attention/b': [4],
    'encoder/kernel': [2, 4, 3],
    'norm/scale': [3],
    'temperature': [],
}
_RATES = [0.1, 0.02, 0.05, 0.01]


# The updates, in double precision. s: the slots of one variable, filled in the first update.


def _SgdOracle(w, g, s, a, t):
    return w - a * g


def _MomentumOracle(w, g, s, a, t, alpha, use_nesterov):
    s['momentum'] = alpha * s.get('momentum', 0) - a * g
    return w + (alpha * s['momentum'] - a * g if use_nesterov else s['momentum'])


def _Moments(g, s, beta1, beta2):
    s['momentum'] = beta1 * s.get('momentum', 0) + (1 - beta1) * g
    s['velocity'] = beta2 * s.get('velocity', 0) + (1 - beta2) * g**2
    return s['momentum'], s['velocity']


def _AdamOracle(w, g, s, a, t, beta1, beta2, epsilon, weight_decay=0.0):
    m, v = _Moments(g, s, beta1, beta2)
    w = w - a * weight_decay * w
    correction = np.sqrt(1 - beta2**t) / (1 - beta1**t)
    return w - a * correction * m / (np.sqrt(v) + epsilon)


def _LionOracle(w, g, s, a, t, beta1, beta2, weight_decay):
    m = s.get('momentum', np.zeros_like(g))
    s['momentum'] = beta2 * m + (1 - beta2) * g
    return w - a * weight_decay * w - a * np.sign(beta1 * m + (1 - beta1) * g)


def _LambOracle(w, g, s, a, t, beta1, beta2, epsilon, weight_decay):
    m, v = _Moments(g, s, beta1, beta2)
    u = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon) + weight_decay * w
    norms = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(u**2))
    return w - a * (norms[0] / norms[1] if all(norms) else 1.0) * u


def _NovoGradOracle(w, g, s, a, t, beta1, beta2, epsilon, weight_decay):
    square = np.sum(g**2)
    s['velocity'] = beta2 * s['velocity'] + (1 - beta2) * square if s else square
    u = g / (np.sqrt(s['velocity']) + epsilon) + weight_decay * w
    s['momentum'] = beta1 * s.get('momentum', 0) + u
    return w - a * s['momentum']


def _LarcOracle(w, g, s, a, t, alpha, use_nesterov, eta, mode, min_update, epsilon):
    """OpenSeq2Seq's form: the gradient is scaled, not the learning rate."""
    trust = eta * np.sqrt(np.sum(w**2)) / (np.sqrt(np.sum(g**2)) + epsilon)
    if mode == 'clip':
        r = min(1, max(trust / a, min_update))
    else:
        r = max(trust, min_update)
    return _MomentumOracle(w, r * g, s, a, t, alpha, use_nesterov)


def _AdafactorOracle(w, g, s, a, t, min_dim_size_to_factor, clipping_threshold):
    b = 1 - t**-0.8
    h = g**2 + 1e-30
    if g.ndim >= 2 and min(g.shape[-2:]) >= min_dim_size_to_factor:
        s['row'] = b * s.get('row', 0) + (1 - b) * h.mean(axis=-1)
        s['column'] = b * s.get('column', 0) + (1 - b) * h.mean(axis=-2)
        v = np.einsum('...i,...j->...ij', s['row'], s['column'])
        v /= s['row'].mean(axis=-1)[..., None, None]
    else:
        v = s['velocity'] = b * s.get('velocity', 0) + (1 - b) * h
    u = g / np.sqrt(v)
    u /= max(1.0, np.sqrt(np.mean(u**2)) / clipping_threshold)
    return w - a * max(1e-3, np.sqrt(np.mean(w**2))) * u


# Between the ratios of the variables, so that some are limited and some are not.
_LARC = dict(alpha=0.7, use_nesterov=False, eta=0.03, min_update=0.4, epsilon=1e-7)
_ADAM = dict(beta1=0.8, beta2=0.95, epsilon=1e-6)
_CASES = [
    (optimizers.SGD, _SgdOracle, {}),
    (optimizers.Momentum, _MomentumOracle, dict(alpha=0.7, use_nesterov=False)),
    (optimizers.Momentum, _MomentumOracle, dict(alpha=0.7, use_nesterov=True)),
    (optimizers.Larc, _LarcOracle, dict(**_LARC, mode='clip')),
    (optimizers.Larc, _LarcOracle, dict(**_LARC, mode='scale')),
    (optimizers.Adam, _AdamOracle, _ADAM),
    (optimizers.AdamW, _AdamOracle, dict(**_ADAM, weight_decay=0.3)),
    (optimizers.Lion, _LionOracle, dict(beta1=0.8, beta2=0.95, weight_decay=0.3)),
    (optimizers.Lamb, _LambOracle, dict(**_ADAM, weight_decay=0.3)),
    (
        optimizers.NovoGrad,
        _NovoGradOracle,
        dict(beta1=0.8, beta2=0.5, epsilon=1e-6, weight_decay=0.3),
    ),
    (
        optimizers.Adafactor,
        _AdafactorOracle,
        dict(min_dim_size_to_factor=3, clipping_threshold=0.6),
    ),
]
_EACH = pytest.mark.parametrize(
    'cls, oracle, values', _CASES, ids=[f'{i}_{c[0].__name__}' for i, c in enumerate(_CASES)]
)


def _Initial(paths=_SHAPES):
    return {
        path: np.random.default_rng(len(path)).normal(size=_SHAPES[path]).astype(np.float32)
        for path in paths
    }


def _Gradients(step, paths=_SHAPES):
    return {
        path: np.random.default_rng([step, len(path)]).normal(size=_SHAPES[path]).astype(np.float32)
        for path in paths
    }


class _Run:
    """Variables and an optimizer, updated in one tf.function."""

    def __init__(self, p, paths=_SHAPES):
        self.variables = {path: tf.Variable(v) for path, v in _Initial(paths).items()}
        self.optimizer = p.Instantiate()
        self.optimizer.Build(self.variables)
        self.apply = tf.function(self.optimizer.Apply, autograph=False)

    def Step(self, step, grads=None):
        grads = _Gradients(step, self.variables) if grads is None else grads
        grads = {path: tf.constant(g) for path, g in grads.items()}
        self.apply(grads, tf.constant(_RATES[step], tf.float32))

    def Values(self):
        return {path: variable.numpy() for path, variable in self.variables.items()}


def test_every_optimizer_has_a_formula():
    known = {optimizers.BaseOptimizer, optimizers.KerasOptimizer, *(case[0] for case in _CASES)}
    found = public_classes.Below(lingvo_lite.optim, optimizers.BaseOptimizer)
    assert [name for name, cls in found.items() if cls not in known] == []
    assert len(found) > 8


@_EACH
def test_updates_follow_the_formula_in_one_graph(cls, oracle, values):
    p = cls.Params().Set(**values)
    if 'weight_decay' in values:
        p.weight_decay_exclusion = ''
    run = _Run(p)
    wanted = {path: v.astype(np.float64) for path, v in _Initial().items()}
    slots = {path: {} for path in wanted}
    for step, rate in enumerate(_RATES):
        run.Step(step)
        for path, g in _Gradients(step).items():
            g = g.astype(np.float64)
            wanted[path] = oracle(wanted[path], g, slots[path], rate, step + 1, **values)
    for path, value in run.Values().items():
        np.testing.assert_allclose(value, wanted[path], rtol=2e-5, atol=2e-6, err_msg=path)
    assert run.apply.experimental_get_tracing_count() == 1
    # The slots are those of the paper, under their names.
    got = run.optimizer.Slots()
    assert got.pop(('', 'iteration')) == len(_RATES)
    assert set(got) == {(path, name) for path, by_name in slots.items() for name in by_name}
    for (path, name), slot in got.items():
        np.testing.assert_allclose(slot, slots[path][name], rtol=2e-5, atol=1e-6, err_msg=path)


@_EACH
def test_freezing_a_variable_shifts_no_slot(cls, oracle, values):
    """Two updates, saved; a run with the first variable frozen restores and goes on."""
    frozen, *trained = _SHAPES
    whole = _Run(cls.Params().Set(**values))
    whole.Step(0)
    whole.Step(1)
    saved = {key: slot.numpy() for key, slot in whole.optimizer.Slots().items()}
    weights = whole.Values()

    part = _Run(cls.Params().Set(**values), trained)
    for path, variable in part.variables.items():
        variable.assign(weights[path])
    for key, slot in part.optimizer.Slots().items():
        slot.assign(saved[key])
    assert {path for path, _ in part.optimizer.Slots()} <= {'', *trained}
    whole.Step(2)
    part.Step(2)
    for path, value in part.Values().items():
        np.testing.assert_array_equal(value, whole.Values()[path], err_msg=path)
    assert not np.array_equal(whole.Values()[frozen], weights[frozen])


@_EACH
def test_a_variable_without_a_gradient_stays(cls, oracle, values):
    run, other = _Run(cls.Params().Set(**values)), _Run(cls.Params().Set(**values))
    grads = _Gradients(0)
    del grads['temperature']
    run.Step(0, grads)
    other.Step(0)
    for path, value in run.Values().items():
        wanted = _Initial() if path == 'temperature' else other.Values()
        np.testing.assert_array_equal(value, wanted[path], err_msg=path)
    run.optimizer.Apply({path: None for path in _SHAPES}, tf.constant(1.0))
    np.testing.assert_array_equal(run.Values()['norm/scale'], other.Values()['norm/scale'])


@_EACH
def test_replicas_stay_equal_and_skip_together(two_replicas, cls, oracle, values):
    """The learner's pattern: a tf.cond in cross-replica context around strategy.run."""
    with two_replicas.scope():
        variables = {path: tf.Variable(v) for path, v in _Initial().items()}
        optimizer = cls.Params().Set(**values).Instantiate()
        optimizer.Build(variables)

    @tf.function(autograph=False)
    def Step(finite, grads, rate):
        def Update():
            two_replicas.run(optimizer.Apply, args=(grads, rate))

        tf.cond(finite, Update, lambda: None)

    def Copies():
        return {
            key: [v.numpy() for v in two_replicas.experimental_local_results(variable)]
            for key, variable in {**variables, **optimizer.Slots()}.items()
        }

    alone = _Run(cls.Params().Set(**values))
    for step, rate in enumerate(_RATES):
        alone.Step(step)
        grads = {path: tf.constant(g) for path, g in _Gradients(step).items()}
        Step(tf.constant(True), grads, tf.constant(rate, tf.float32))
    after = Copies()
    for key, copies in after.items():
        assert len(copies) == 2
        np.testing.assert_array_equal(copies[0], copies[1], err_msg=str(key))
    for key, variable in {**alone.variables, **alone.optimizer.Slots()}.items():
        # Equal gradients on both replicas give the update of one: nothing is summed.
        np.testing.assert_allclose(after[key][0], variable, rtol=1e-6, err_msg=str(key))

    bad = {path: tf.constant(np.inf * g, tf.float32) for path, g in _Gradients(0).items()}
    Step(tf.constant(False), bad, tf.constant(1.0))
    for key, copies in Copies().items():
        np.testing.assert_array_equal(copies, after[key], err_msg=str(key))
    assert Step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    'cls', [optimizers.AdamW, optimizers.Lion, optimizers.Lamb, optimizers.NovoGrad]
)
def test_decay_leaves_out_biases_and_norms(cls):
    p = cls.Params()
    plain, decayed = _Run(p), _Run(p.Copy().Set(weight_decay=0.5))
    plain.Step(0)
    decayed.Step(0)
    changed = {
        path for path, v in plain.Values().items() if not np.array_equal(v, decayed.Values()[path])
    }
    # (Lamb's step of a scalar has the size of the scalar, whatever the decay.)
    assert changed - {'temperature'} == {'encoder/attention/w', 'encoder/kernel'}


def test_the_fused_adam_is_that_of_keras():
    run = _Run(optimizers.Adam.Params().Set(epsilon=1e-7))
    variables = [tf.Variable(v) for v in _Initial().values()]
    theirs = keras.optimizers.Adam(beta_1=0.9, beta_2=0.999, epsilon=1e-7)
    for step, rate in enumerate(_RATES):
        run.Step(step)
        theirs.learning_rate = rate
        theirs.apply_gradients(zip(map(tf.constant, _Gradients(step).values()), variables))
    for path, variable in zip(_SHAPES, variables):
        start = _Initial()[path]
        # Keras takes 1 - beta2 in double precision, the kernel in float32: 5e-5 apart.
        np.testing.assert_allclose(run.Values()[path] - start, variable - start, rtol=1e-4)


def test_adafactor_without_parameter_scale():
    p = optimizers.Adafactor.Params().Set(multiply_by_parameter_scale=False)
    run = _Run(p, ['temperature'])
    before = run.Values()['temperature']
    run.Step(0)
    # b = 0 in the first update, so u = g / |g|.
    wanted = before - _RATES[0] * np.sign(_Gradients(0)['temperature'])
    np.testing.assert_allclose(run.Values()['temperature'], wanted, rtol=1e-5)


def test_adafactor_bears_gradients_of_zero():
    run = _Run(optimizers.Adafactor.Params().Set(min_dim_size_to_factor=3))
    for step in range(3):
        run.Step(step, {path: np.zeros(shape, np.float32) for path, shape in _SHAPES.items()})
    for path, value in run.Values().items():
        np.testing.assert_array_equal(value, _Initial()[path])


def test_lamb_starts_from_zero():
    """A variable of zeros has no norm to be relative to: the plain update."""
    run = _Run(optimizers.Lamb.Params().Set(epsilon=0.0), ['norm/scale'])
    run.variables['norm/scale'].assign([0.0, 0.0, 0.0])
    run.Step(0)
    wanted = -_RATES[0] * np.sign(_Gradients(0)['norm/scale'])
    np.testing.assert_allclose(run.Values()['norm/scale'], wanted, rtol=1e-4)


@pytest.mark.parametrize('cls', [optimizers.NovoGrad, optimizers.Larc])
def test_what_is_relative_to_a_norm_bears_zeros(cls):
    """Weights and gradients of zero, and a warm-up that begins at a learning rate of 0."""
    run = _Run(cls.Params().Set(epsilon=0.0), ['norm/scale'])
    run.variables['norm/scale'].assign([0.0, 0.0, 0.0])
    zeros = {'norm/scale': tf.zeros([3])}
    for rate in (0.0, 0.1):
        run.apply(zeros, tf.constant(rate))
        run.apply({'norm/scale': tf.constant([1.0, 2.0, -3.0])}, tf.constant(0.0))
    run.apply({'norm/scale': tf.constant([1.0, 2.0, -3.0])}, tf.constant(0.1))
    assert np.isfinite(run.Values()['norm/scale']).all()
    for slot in run.optimizer.Slots().values():
        assert np.isfinite(slot.numpy()).all()


def test_novograd_does_not_see_the_size_of_gradients():
    """Without decay, gradients a thousand times larger give the same updates."""
    p = optimizers.NovoGrad.Params().Set(epsilon=0.0)
    small, large = _Run(p), _Run(p)
    for step in range(3):
        grads = _Gradients(step)
        small.Step(step, grads)
        large.Step(step, {path: np.float32(1024.0) * g for path, g in grads.items()})
    for path, value in large.Values().items():
        np.testing.assert_allclose(value, small.Values()[path], rtol=1e-5, err_msg=path)
        assert not np.allclose(value, _Initial()[path])


def test_larc_moves_no_variable_further_than_eta_of_its_size():
    p = optimizers.Larc.Params().Set(eta=1e-3)
    run = _Run(p)
    run.Step(0, {path: np.float32(1e3) * g for path, g in _Gradients(0).items()})
    for path, value in run.Values().items():
        change = np.linalg.norm(value - _Initial()[path]) / np.linalg.norm(_Initial()[path])
        # float32 rounds the weights it is taken from.
        assert change == pytest.approx(1e-3, rel=1e-3), path
    # Where the learning rate is the smaller one, it is momentum.
    gentle, momentum = _Run(p.Copy()), _Run(optimizers.Momentum.Params())
    for each in (gentle, momentum):
        each.Step(0, {path: np.float32(1e-6) * g for path, g in _Gradients(0).items()})
    for path, value in gentle.Values().items():
        np.testing.assert_array_equal(value, momentum.Values()[path])


def test_a_keras_optimizer_that_keeps_nameless_state_is_refused():
    class KerasAdafactor(optimizers.KerasOptimizer):
        def _KerasOptimizer(self):
            return keras.optimizers.Adafactor, {}

    with pytest.raises(RuntimeError, match='cannot be saved by name'):
        _Run(KerasAdafactor.Params())


def test_any_keras_optimizer_can_be_taken():
    class RMSprop(optimizers.KerasOptimizer):
        def _KerasOptimizer(self):
            return keras.optimizers.RMSprop, {'rho': 0.8}

    run = _Run(RMSprop.Params())
    variables = [tf.Variable(v) for v in _Initial().values()]
    theirs = keras.optimizers.RMSprop(rho=0.8)
    for step, rate in enumerate(_RATES):
        run.Step(step)
        theirs.learning_rate = rate
        theirs.apply_gradients(zip(map(tf.constant, _Gradients(step).values()), variables))
    for ours, variable in zip(run.Values().values(), variables):
        np.testing.assert_allclose(ours, variable, rtol=1e-6)
    assert ('temperature', 'velocity') in run.optimizer.Slots()


def test_what_is_given_to_build_is_checked(two_replicas):
    def Build(variables):
        optimizers.Adam.Params().Instantiate().Build(variables)

    with pytest.raises(ValueError, match='Adam has no variables to train'):
        Build({})
    with pytest.raises(ValueError, match='a/w is float16'):
        Build({'a/w': tf.Variable(1.0, dtype=tf.float16)})
    with two_replicas.scope():
        variable = tf.Variable(1.0)
    with pytest.raises(ValueError, match=r'with strategy.scope\(\)'):
        Build({'a/w': variable})
    run = _Run(optimizers.Adam.Params())
    with pytest.raises(RuntimeError, match='called before'):
        run.optimizer.Build(run.variables)


def test_what_is_given_to_apply_is_checked(two_replicas):
    run = _Run(optimizers.Adam.Params())
    rate = tf.constant(1.0)
    with pytest.raises(ValueError, match=r"not built for 'norm/scal'. Nearest .*norm/scale"):
        run.optimizer.Apply({'norm/scal': tf.zeros([3])}, rate)
    with pytest.raises(TypeError, match='norm/scale is float16: cast it'):
        run.optimizer.Apply({'norm/scale': tf.zeros([3], tf.float16)}, rate)
    slices = tf.IndexedSlices(tf.zeros([1, 4]), tf.constant([2]), tf.constant([3, 4]))
    with pytest.raises(TypeError, match='attention/w is IndexedSlices: make it dense'):
        run.optimizer.Apply({'encoder/attention/w': slices}, rate)
    with two_replicas.scope(), pytest.raises(RuntimeError, match='in a replica context'):
        run.optimizer.Apply({}, rate)
    with pytest.raises(RuntimeError, match='Build must be called before Apply'):
        optimizers.Adam.Params().Instantiate().Apply({}, rate)
    for path, value in run.Values().items():
        np.testing.assert_array_equal(value, _Initial()[path])


@pytest.mark.parametrize(
    'cls, values, message',
    [
        (optimizers.Momentum, dict(alpha=1.0), 'alpha=1.0 must be above 0 and below 1 .*SGD'),
        (optimizers.Adam, dict(beta2=1.0), 'beta2=1.0 must be at least 0 and below 1'),
        (optimizers.Adam, dict(epsilon=-1.0), 'epsilon=-1.0 must be at least 0'),
        (optimizers.AdamW, dict(weight_decay=-0.1), 'weight_decay=-0.1 must be at least 0'),
        (optimizers.AdamW, dict(weight_decay_exclusion='('), 'is no regex'),
        (optimizers.AdamW, dict(beta1=1.0), 'beta1=1.0 must be at least 0 and below 1'),
        (optimizers.Lion, dict(beta1=0.0), 'beta1=0.0 must be above 0 .*leaves the sign'),
        (optimizers.Lamb, dict(beta1=-0.1), 'beta1=-0.1 must be at least 0'),
        (optimizers.NovoGrad, dict(beta2=1.0), 'beta2=1.0 must be at least 0 and below 1'),
        (optimizers.NovoGrad, dict(weight_decay=-1.0), 'weight_decay=-1.0 must be at least 0'),
        (optimizers.Larc, dict(eta=0.0), 'eta=0.0 must be above 0'),
        (optimizers.Larc, dict(alpha=1.0), 'alpha=1.0 must be above 0 and below 1 .*SGD'),
        (
            optimizers.Adafactor,
            dict(clipping_threshold=0.0),
            'clipping_threshold=0.0 must be above 0',
        ),
    ],
)
def test_what_does_not_fit_is_refused(cls, values, message):
    with pytest.raises(hyperparams.ConfigError, match=message):
        cls.Params().Set(**values).Instantiate()
