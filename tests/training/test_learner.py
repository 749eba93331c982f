"""A step on one replica."""

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers import base, linear
from lingvo_lite.layers.initializers import WeightInit
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import optimizers, schedules, variable_group
from lingvo_lite.training import replica_function

keras = tf.keras


def _Gradients(task, batch, names=('token', 'row')):
    """{path: gradient} of the loss as its definition says, by an own tape."""
    variables, batch = task.TrainableVariables(), batch.Transform(tf.constant)
    with step.Context(training=True), tf.GradientTape() as tape:
        terms = task.ComputeLoss(task.ComputePredictions(batch), batch).terms
        loss = tf.add_n([terms[k][0] / terms[k][1] for k in names if k in terms])
    return dict(zip(variables, tape.gradient(loss, list(variables.values()))))


def test_steps_equal_a_step_written_by_hand(tiny):
    p = tiny.Params(
        **{
            'train.optimizer': optimizers.Adam.Params(),
            'train.learning_rate': 0.01,
            'train.clip_gradient_norm_to_value': 0.5,
        }
    )
    learner = tiny.Learner(p)
    by_hand = p.Instantiate()
    variables = list(by_hand.TrainableVariables().values())
    a = p.train.optimizer
    keras_adam = keras.optimizers.Adam(
        0.01, beta_1=a.beta1, beta_2=a.beta2, epsilon=a.epsilon, global_clipnorm=0.5
    )
    keras_adam.build(variables)
    for seed in range(4):
        batch = tiny.Batch(rows=3 + seed, seed=seed)
        learner.TrainStep([batch])
        gradients = _Gradients(by_hand, batch)
        assert np.linalg.norm([tf.norm(g) for g in gradients.values()]) > 0.5
        keras_adam.apply(list(gradients.values()), variables)
    tiny.AssertClose(
        tiny.Values(learner.task.AllVariables()), tiny.Values(by_hand.AllVariables()), rtol=1e-4
    )


def test_numbers_are_those_of_the_batch(tiny):
    p = tiny.Params(by_row=True, loss_weights={'row': 0.25})
    learner = tiny.Learner(p)
    batch = tiny.Batch(rows=5, fill=1)
    y = _Predict(learner.task, batch)
    gradients = _Norm(_WeightedGradients(learner.task, batch, 0.25))
    numbers = learner.TrainStep([batch]).Read()
    error = y - batch.y
    token = (batch.weights * error**2).sum() / batch.weights.sum()
    row = (batch.weights * np.abs(error)).sum() / 4
    assert numbers.terms.token == pytest.approx(token, rel=1e-5)
    assert numbers.terms.row == pytest.approx(row, rel=1e-5)
    assert numbers.loss == pytest.approx(token + 0.25 * row, rel=1e-5)
    assert numbers.weights == {'token': batch.weights.sum(), 'row': 4}
    assert numbers.metrics.bias[0] == pytest.approx(
        (batch.weights * error).sum() / batch.weights.sum(), rel=1e-4
    )
    assert numbers.grad_norm == pytest.approx(gradients, rel=1e-5)
    assert numbers.learning_rate == pytest.approx(0.1)
    assert (numbers.step, numbers.updates, numbers.skipped) == (1, 1, 0)
    assert numbers.finite is True


def _Predict(task, batch):
    with step.Context(training=False):
        return task.ComputePredictions(batch.Transform(tf.constant)).y.numpy()


def _WeightedGradients(task, batch, row):
    token = _Gradients(task, batch, ['token'])
    by_row = _Gradients(task, batch, ['row'])
    return {path: token[path] + row * by_row[path] for path in token}


def _Norm(gradients):
    return np.sqrt(sum(np.sum(np.square(g)) for g in gradients.values()))


def test_one_trace_for_all_sizes(tiny):
    learner = tiny.Learner(tiny.Params())
    for rows, time in [(4, 6), (1, 1), (7, 3), (2, 11)]:
        learner.TrainStep([tiny.Batch(rows, time)])
    assert learner.num_traces == 1
    assert learner.step.numpy() == 4


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda b: b.pop('weights'), 'Missing: weights; unexpected: none'),
        (lambda b: b.update(extra=b.y), 'Missing: none; unexpected: extra'),
        (lambda b: b.update(y=b.y.astype(np.float64)), r'y of replica 0 is float64 \[4, 6\]'),
        (lambda b: b.update(x=b.x[..., :2]), r'x of replica 0 is float32 \[4, 6, 2\]'),
        (lambda b: b.update(y=b.y[0]), r'first batch had float32 \[None, None\]'),
    ],
)
def test_a_batch_of_another_form_is_an_error(tiny, small_learner, change, message):
    batch = tiny.Batch()
    change(batch)
    with pytest.raises(replica_function.BatchError, match=message):
        small_learner.TrainStep([batch])
    with pytest.raises(replica_function.BatchError, match='1 replicas, got 2 batches'):
        small_learner.TrainStep([tiny.Batch(), tiny.Batch()])


@pytest.fixture(scope='module')
def small_learner(tiny):
    learner = tiny.Learner(tiny.Params())
    learner.TrainStep([tiny.Batch()])
    return learner


def test_a_skipped_step_changes_only_the_counters(tiny):
    p = tiny.Params(**{'train.optimizer': optimizers.Adam.Params(), 'train.ema_decay': 0.9})
    learner = tiny.Learner(p)
    learner.TrainStep([tiny.Batch()])
    before = tiny.Values(learner.State())
    bad = tiny.Batch(seed=1)
    bad.x[0, 0, 0] = np.nan
    for _ in range(2):
        numbers = learner.TrainStep([bad]).Read()
    after = tiny.Values(learner.State())
    changed = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    assert changed == {'.step', '.skipped', '.skipped_in_a_row'}
    assert not numbers.finite and np.isnan(numbers.loss)
    assert (numbers.step, numbers.updates, numbers.skipped_in_a_row) == (3, 1, 2)
    numbers = learner.TrainStep([tiny.Batch()]).Read()
    assert (numbers.updates, numbers.skipped, numbers.skipped_in_a_row) == (2, 2, 0)


class Statistics(base.BaseLayer):
    """x, of which the mean is kept."""

    def __init__(self, params):
        super().__init__(params)
        zero = WeightInit.Constant(0.0)
        self.CreateVariable('mean', base.Weight([], init=zero, trainable=False))

    def FProp(self, x):
        self.vars.mean.assign(tf.reduce_mean(x))
        return x


def _WithStatistics(tiny):
    class WithStatistics(tiny.TinyTask):
        def __init__(self, params):
            super().__init__(params)
            self.CreateChild('statistics', Statistics.Params())

        def ComputePredictions(self, batch):
            return super().ComputePredictions(NestedMap(x=self.statistics(batch.x)))

    p = WithStatistics.Params()
    p.train.optimizer = optimizers.SGD.Params()
    return p


@pytest.mark.parametrize('replicas', [1, 2])
def test_a_skipped_step_leaves_no_trace_in_statistics(tiny, two_replicas, replicas):
    strategy = two_replicas if replicas == 2 else None
    learner = tiny.Learner(_WithStatistics(tiny), strategy)
    good, bad = tiny.Batch(), tiny.Batch()
    bad.x[0] = np.nan
    learner.TrainStep([good] * replicas)
    learner.TrainStep([good] * (replicas - 1) + [bad])
    learner.TrainStep([bad] * replicas)
    mean = learner.task.AllVariables()['statistics/mean']
    np.testing.assert_allclose(mean.numpy(), good.x.mean(), rtol=1e-5)


def test_training_must_stop_after_too_many_skipped_steps(tiny):
    learner = tiny.Learner(tiny.Params(**{'train.max_skipped_in_a_row': 2}))
    bad = tiny.Batch()
    bad.y[:] = np.inf
    stops = [learner.MustStop(learner.TrainStep([bad]).Read()) for _ in range(3)]
    assert stops == [False, False, True]


def test_with_stop_the_first_step_that_is_not_finite_is_the_last(tiny):
    learner = tiny.Learner(tiny.Params(**{'train.on_non_finite': 'stop'}))
    bad = tiny.Batch()
    bad.y[0] = np.nan
    assert learner.check_every == 1
    assert not learner.MustStop(learner.TrainStep([tiny.Batch()]).Read())
    before = tiny.Values(learner.task.AllVariables())
    numbers = learner.TrainStep([bad]).Read()
    assert learner.MustStop(numbers) and numbers.skipped == 1
    tiny.AssertClose(tiny.Values(learner.task.AllVariables()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    'method, field, stops',
    [('backoff', 'scale', False), ('static', 'scale', True), ('backoff', 'y', True)],
)
def test_what_a_smaller_loss_scale_can_answer_does_not_stop(tiny, method, field, stops):
    p = tiny.Params(**{'fprop_dtype': tf.float16, 'train.on_non_finite': 'stop'})
    p.train.loss_scale.Set(method=method, initial_scale=2.0**24)  # gradients overflow, no loss
    batch = tiny.Batch()
    if field == 'y':
        batch.y[0] = np.inf
    learner = tiny.Learner(p)
    numbers = learner.TrainStep([batch]).Read()
    assert not numbers.finite and np.isfinite(numbers.loss) == (field == 'scale')
    assert learner.MustStop(numbers) == stops


@pytest.mark.parametrize('replicas', [1, 2])
def test_a_step_that_is_only_tried_changes_nothing(tiny, two_replicas, replicas):
    strategy = two_replicas if replicas == 2 else None
    p = _WithStatistics(tiny)
    p.Set(**{'fprop_dtype': tf.float16, 'train.ema_decay': 0.9, 'train.accumulation': 2})
    p.train.loss_scale.initial_scale = 8.0
    learner = tiny.Learner(p, strategy)
    before = tiny.Values(learner.State())
    large = [tiny.Batch(rows=9, time=11, seed=n) for n in range(replicas)]
    tried = learner.TryStep(large).Read()
    assert tried.finite and tried.grad_norm > 0  # forward and backward were done
    tiny.AssertClose(tiny.Values(learner.State()), before, rtol=0, atol=0)
    done = learner.TrainStep([tiny.Batch()] * replicas).Read()
    assert (done.step, done.updates, learner.num_traces) == (1, 1, 1)
    assert any((v != before[k]).any() for k, v in tiny.Values(learner.State()).items())


def test_the_schedule_follows_updates_not_steps(tiny):
    halving = schedules.PiecewiseConstant.Params().Set(boundaries=[1, 2], values=[1.0, 0.5, 0.25])
    p = tiny.Params(**{'train.lr_schedule': halving, 'train.learning_rate': 0.1})
    learner = tiny.Learner(p)
    bad = tiny.Batch()
    bad.x[:] = np.inf
    rates = [
        learner.TrainStep([batch]).Read().learning_rate
        for batch in (tiny.Batch(), bad, bad, tiny.Batch(), tiny.Batch())
    ]
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.05, 0.05, 0.025], rtol=1e-6)


def test_frozen_variables_stay(tiny):
    p = tiny.Params(
        **{'train.bprop_variable_filter': 'second', 'train.bprop_variable_exclusion': 'b$'}
    )
    learner = tiny.Learner(p)
    before = tiny.Values(learner.task.AllVariables())
    learner.TrainStep([tiny.Batch()])
    after = tiny.Values(learner.task.AllVariables())
    assert learner.frozen == ['first/b', 'first/w', 'second/b']
    assert [k for k in after if not np.array_equal(after[k], before[k])] == ['second/w']


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'bprop_variable_filter': 'encoder'}, "'encoder' matches none of 4 variables: first/b"),
        ({'bprop_variable_exclusion': 'encoder'}, "'encoder' matches none of 4 variables"),
        ({'bprop_variable_exclusion': '.'}, 'leaves no variable to train'),
        ({'bprop_variable_filter': '('}, 'is no regular expression'),
        ({'l2_regularizer_weight': 0.1, 'regularizer_filter': 'b$'}, 'matches none of 2 variables'),
        ({'accumulation': 0}, 'accumulation=0 must be at least 1'),
        ({'ema_decay': 1.0}, 'ema_decay=1.0 must be at least 0 and below 1'),
        ({'vn_std': 0.1}, 'needs both train.vn_std > 0 and vn.global_vn=True'),
        ({'clip_gradient_value': -1.0}, 'clip_gradient_value=-1.0 must be at least 0'),
    ],
)
def test_settings_that_cannot_be_meant_are_errors(tiny, settings, message):
    p = tiny.Params(**{f'train.{key}': value for key, value in settings.items()})
    with pytest.raises(hyperparams.ConfigError, match=message):
        tiny.Learner(p)


def test_a_loss_weight_for_no_term_is_an_error(tiny):
    learner = tiny.Learner(tiny.Params(loss_weights={'tokens': 2.0}))
    with pytest.raises(hyperparams.ConfigError, match="returns: token. Did you mean 'token'?"):
        learner.TrainStep([tiny.Batch()])
    with pytest.raises(hyperparams.ConfigError, match='tokens'):
        learner.TrainStep([tiny.Batch()])


def test_a_variable_outside_of_the_loss_is_an_error(tiny):
    learner = tiny.Learner(_WithUnused(tiny))
    with pytest.raises(hyperparams.ConfigError, match='1 trainable variables .*: spare/w'):
        learner.TrainStep([tiny.Batch()])
    excluded = _WithUnused(tiny).Set(**{'train.bprop_variable_exclusion': 'spare'})
    assert tiny.Learner(excluded).TrainStep([tiny.Batch()]).Read().finite


def _WithUnused(tiny):
    class WithUnused(tiny.TinyTask):
        def __init__(self, params):
            super().__init__(params)
            spare = linear.Linear.Params().Set(input_dim=2, output_dim=2, use_bias=False)
            self.CreateChild('spare', spare)

    p = WithUnused.Params()
    p.train.optimizer = optimizers.SGD.Params()
    return p


def test_l2_pulls_weights_and_not_biases(tiny):
    plain, pulled = (
        tiny.Learner(tiny.Params(**{'train.l2_regularizer_weight': weight})) for weight in (0, 0.3)
    )
    start = tiny.Values(plain.task.AllVariables())
    assert 'regularization' not in plain.TrainStep([tiny.Batch()]).Read()
    numbers = pulled.TrainStep([tiny.Batch()]).Read()
    wanted = tiny.Values(plain.task.AllVariables())
    squares = 0.0
    for path in ('first/w', 'second/w'):
        wanted[path] -= 0.1 * 0.3 * start[path]
        squares += np.sum(start[path] ** 2)
    tiny.AssertClose(tiny.Values(pulled.task.AllVariables()), wanted)
    assert numbers.regularization == pytest.approx(0.3 * squares / 2, rel=1e-5)


def test_clipping_by_value_is_behind_that_by_norm(tiny):
    limits = {'train.clip_gradient_norm_to_value': 0.2, 'train.clip_gradient_value': 0.05}
    learner = tiny.Learner(tiny.Params(**limits))
    before = tiny.Values(learner.task.AllVariables())
    gradients = _Gradients(learner.task, tiny.Batch())
    norm = _Norm(gradients)
    numbers = learner.TrainStep([tiny.Batch()]).Read()
    clipped = {k: np.clip(g.numpy() * 0.2 / norm, -0.05, 0.05) for k, g in gradients.items()}
    assert any((np.abs(g) == 0.05).any() for g in clipped.values())
    assert numbers.grad_norm == pytest.approx(norm, rel=1e-5) and norm > 0.2
    tiny.AssertClose(
        tiny.Values(learner.task.AllVariables()), {k: before[k] - 0.1 * clipped[k] for k in before}
    )


def test_the_average_follows_the_variables(tiny):
    learner = tiny.Learner(tiny.Params(**{'train.ema_decay': 0.25}))
    shadow = tiny.Values(learner.task.AllVariables())
    for n, decay in enumerate([2 / 11, 0.25, 0.25]):
        learner.TrainStep([tiny.Batch(seed=n)])
        values = tiny.Values(learner.task.AllVariables())
        shadow = {k: decay * shadow[k] + (1 - decay) * values[k] for k in values}
    state = learner.State()
    tiny.AssertClose({k: state[f'{k}/.ema'].numpy() for k in shadow}, shadow)


def test_variational_noise_starts_at_its_step(tiny):
    noise = {'train.vn_std': 0.5, 'train.vn_start_step': 2, 'vn.global_vn': True}
    noisy, quiet = tiny.Learner(tiny.Params(**noise)), tiny.Learner(tiny.Params())
    differs = []
    for _ in range(4):
        losses = [each.TrainStep([tiny.Batch()]).Read().loss for each in (noisy, quiet)]
        differs.append(abs(losses[0] - losses[1]) > 1e-4)
    assert differs == [False, False, True, True]


def test_state_has_every_name_and_carries_on_exactly(tiny):
    p = tiny.Params(**{'train.optimizer': optimizers.Adam.Params(), 'train.ema_decay': 0.9})
    first = tiny.Learner(p)
    paths = ['first/b', 'first/w', 'second/b', 'second/w']
    names = {'.step', '.updates', '.skipped', '.skipped_in_a_row', '.state/iteration'}
    names |= {f'{path}{end}' for path in paths for end in ('', '/.ema')}
    slots = {name for name in first.State() if '/.slot/' in name}
    assert {name.split('/.slot/')[0] for name in slots} == set(paths)
    assert first.State().keys() == names | slots
    first.TrainStep([tiny.Batch(seed=0)])
    second = tiny.Learner(p)
    for name, variable in second.State().items():
        variable.assign(first.State()[name])
    for learner in (first, second):
        learner.TrainStep([tiny.Batch(seed=1)])
    for name, value in tiny.Values(first.State()).items():
        np.testing.assert_array_equal(second.State()[name].numpy(), value, err_msg=name)


def test_draws_differ_by_step_and_repeat_after_a_restart(tiny):
    class Drawing(tiny.TinyTask):
        def ComputeLoss(self, predictions, batch):
            loss = super().ComputeLoss(predictions, batch)
            draw = tf.random.stateless_uniform([], step.ActivationSeed('dropout'))
            loss.metrics = {'draw': (draw, 1.0)}
            return loss

    def Draw(learner):
        return learner.TrainStep([tiny.Batch()]).Read().metrics.draw[0]

    p = Drawing.Params()
    p.train.optimizer = optimizers.SGD.Params()
    first = tiny.Learner(p)
    draws = [Draw(first) for _ in range(3)]
    assert len(set(draws)) == 3
    restarted = tiny.Learner(p)
    restarted.step.assign(2)
    assert Draw(restarted) == draws[2]
    assert Draw(tiny.Learner(p.Copy().Set(random_seed=2))) != draws[0]


def test_one_device_strategy_and_xla_are_the_same_step(tiny):
    plain = tiny.Learner(tiny.Params())
    other = tiny.Learner(
        tiny.Params(**{'train.jit_compile': True}), tf.distribute.OneDeviceStrategy('CPU:0')
    )
    for rows in (2, 3):
        for learner in (plain, other):
            learner.TrainStep([tiny.Batch(rows=rows)])
    tiny.AssertClose(tiny.Values(other.State()), tiny.Values(plain.State()))


def _Group(name, **settings):
    return variable_group.VariableGroup.Params().Set(
        name=name, **{'optimizer': optimizers.SGD.Params(), 'learning_rate': 0.1, **settings}
    )


def test_groups_train_on_their_own_terms_and_rates(tiny):
    p = tiny.Params(by_row=True)
    p.train.learners = [
        _Group('generator', variable_filter='^first', loss_terms=['row'], learning_rate=0.01),
        _Group('critic', variable_filter='^second', loss_terms=['token']),
    ]
    learner = tiny.Learner(p)
    before = tiny.Values(learner.task.AllVariables())
    token, row = (_Gradients(learner.task, tiny.Batch(), [name]) for name in ('token', 'row'))
    numbers = learner.TrainStep([tiny.Batch()]).Read()
    wanted = {
        k: v - (0.01 * row[k] if k.startswith('first') else 0.1 * token[k]).numpy()
        for k, v in before.items()
    }
    tiny.AssertClose(tiny.Values(learner.task.AllVariables()), wanted)
    assert numbers.learning_rate == pytest.approx({'generator': 0.01, 'critic': 0.1})


def test_groups_with_one_loss_are_clipped_by_one_norm(tiny):
    limit = {'train.clip_gradient_norm_to_value': 0.2}
    whole, parts = tiny.Params(**limit), tiny.Params(**limit)
    parts.train.learners = [_Group('a', variable_filter='w$'), _Group('b', variable_filter='b$')]
    learners = [tiny.Learner(whole), tiny.Learner(parts)]
    norms = [learner.TrainStep([tiny.Batch()]).Read().grad_norm for learner in learners]
    assert norms[0] == pytest.approx(norms[1]) and norms[0] > 0.2
    tiny.AssertClose(*(tiny.Values(learner.task.AllVariables()) for learner in learners))


@pytest.mark.parametrize(
    ('filters', 'message'),
    [
        (['^first'], 'In none: second/b, second/w. In several: -.'),
        (['.', 'w$'], r'In none: -. In several: first/w \(g0, g1\), second/w \(g0, g1\).'),
        (['.', 'third'], "'third' matches none of 4 variables"),
    ],
)
def test_every_variable_is_in_exactly_one_group(tiny, filters, message):
    p = tiny.Params()
    p.train.learners = [_Group(f'g{i}', variable_filter=f) for i, f in enumerate(filters)]
    with pytest.raises(hyperparams.ConfigError, match=message):
        tiny.Learner(p)


def test_each_loss_is_clipped_by_its_own_norm(tiny):
    p = tiny.Params(by_row=True, **{'train.clip_gradient_norm_to_value': 0.2})
    p.train.learners = [
        _Group('generator', variable_filter='^first', loss_terms=['row']),
        _Group('critic', variable_filter='^second', loss_terms=['token']),
    ]
    learner = tiny.Learner(p)
    wanted = tiny.Values(learner.task.AllVariables())
    norms = []
    for name, term in (('first', 'row'), ('second', 'token')):
        found = _Gradients(learner.task, tiny.Batch(), [term])
        found = {k: g for k, g in found.items() if k.startswith(name)}
        norms.append(_Norm(found))
        for path, gradient in found.items():
            wanted[path] -= 0.1 * gradient.numpy() * 0.2 / norms[-1]
    numbers = learner.TrainStep([tiny.Batch()]).Read()
    assert min(norms) > 0.2 and norms[0] != pytest.approx(norms[1])
    assert numbers.grad_norm == pytest.approx(np.hypot(*norms), rel=1e-5)
    tiny.AssertClose(tiny.Values(learner.task.AllVariables()), wanted)


def test_groups_that_cannot_be_meant_are_errors(tiny):
    twice, foreign, term = tiny.Params(), tiny.Params(), tiny.Params()
    twice.train.learners = [_Group('a', variable_filter='w$'), _Group('a', variable_filter='b$')]
    with pytest.raises(hyperparams.ConfigError, match="two learners have the name 'a'"):
        tiny.Learner(twice)
    with pytest.raises(hyperparams.ConfigError, match='SGD.*VariableGroup'):
        foreign.train.learners = [optimizers.SGD.Params()]
    term.train.learners = [_Group('a', loss_terms=['tokens'])]
    with pytest.raises(hyperparams.ConfigError, match="'tokens'.*Did you mean 'token'?"):
        tiny.Learner(term).TrainStep([tiny.Batch()])


def test_groups_can_be_read_back_from_text(tiny):
    p = tiny.Params()
    p.train.learners = [_Group('a', variable_filter='w$', learning_rate=0.5), _Group('b')]
    assert tiny.Params().FromText(p.ToText()) == p
