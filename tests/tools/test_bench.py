"""The benches: that both sides of a ratio do the same work, and that each bench runs."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.nested_map import NestedMap
from lingvo_lite.tools.bench import (
    __main__ as command,
    hearing,
    recurrent,
    results,
    search,
    speech,
    start,
    step,
    step_by_hand,
    turns,
)

# What is measured.


def test_a_ratio_is_the_median_over_pairs_with_an_interval_that_holds_it():
    rng = np.random.RandomState(1)
    denominators = rng.uniform(1.0, 2.0, size=20)
    ratios = rng.normal(1.5, 0.1, size=20)
    found = results.from_pairs('x', ratios * denominators, denominators, at_most=1.6)
    assert found.value == pytest.approx(np.median(ratios))
    assert np.sort(ratios)[3] < found.low < found.value < found.high < np.sort(ratios)[16]
    assert found.target == '<= 1.6 yes'


def test_equal_pairs_leave_no_doubt():
    found = results.from_pairs('x', [3.0] * 5, [2.0] * 5, at_least=2)
    assert (found.low, found.value, found.high) == (1.5, 1.5, 1.5)
    assert found.target == '>= 2 NO'


def test_functions_are_called_in_turn_and_in_alternating_order():
    calls = []
    seconds = turns.in_turn(
        {name: lambda name=name: calls.append(name) for name in 'abc'}, rounds=3, warm_up=1
    )
    assert ''.join(calls) == 'abc' + 'abc' + 'cba' + 'abc'
    assert {name: len(taken) for name, taken in seconds.items()} == {'a': 3, 'b': 3, 'c': 3}


def test_a_line_is_timed_when_it_appears_and_not_when_the_command_ends():
    program = 'import time; print("step 10"); print("step 1/1  loss", flush=True); time.sleep(1)'
    seconds = start.seconds_to_line([sys.executable, '-c', program], start.FIRST_STEP)
    assert seconds < 1


@pytest.mark.parametrize('program', ['print("step 10")', 'print("step 1"); raise SystemExit(3)'])
def test_a_command_that_fails_is_an_error_with_its_output(program):
    with pytest.raises(RuntimeError, match='(?s)its first step:.*step 1'):
        start.seconds_to_line([sys.executable, '-c', program], start.FIRST_STEP)


# That it is the same work.


@pytest.fixture(scope='module')
def batch():
    return step.random_batch(step.QUICK)


def _Params(rate):
    p = step.task_params(step.QUICK, 'float32', rate)
    p.train.lr_schedule.warmup_steps = 4  # large updates
    # Biases of keys have no gradient but rounding errors, which a small one would blow up.
    p.train.optimizer.epsilon = 1e-3
    return p


@pytest.mark.slow
def test_training_by_hand_is_our_training(batch):
    params = _Params(rate=0.0)
    ours = step.make_ours(params)
    initial = {path: v.numpy() for path, v in ours.task.AllVariables().items()}
    by_hand = [step.make_by_hand(params, ours.task, keras_adam) for keras_adam in (False, True)]
    our_step = step.our_step(ours, batch)
    for _ in range(4):
        loss = our_step()
        for training in by_hand:
            assert step.step_of_hand(training, batch)() == pytest.approx(loss, rel=1e-5)
    for path, variable in ours.task.AllVariables().items():
        assert np.abs(variable.numpy() - initial[path]).max() > 1e-3 or path.endswith('/b')
        for training in by_hand:
            found = training.model.variables[path]
            np.testing.assert_allclose(found, variable, atol=1e-5, err_msg=path)


@pytest.mark.slow
def test_training_by_hand_draws_as_many_random_bytes_as_ours(batch):
    params = _Params(rate=0.1)
    ours = step.make_ours(params)
    by_hand = step.make_by_hand(params, ours.task)
    without = step.make_by_hand(_Params(rate=0.0), ours.task)
    loss = step.step_of_hand(by_hand, batch)()
    assert abs(loss - step.step_of_hand(without, batch)()) > 1e-3
    step.our_step(ours, batch)()
    comparisons = [
        [op for op in graph.get_operations() if op.type == 'GreaterEqual' and _IsOfBytes(op)]
        for graph in (_Graph(ours._function._function), _Graph(by_hand.step))
    ]
    # On both embeddings, 2 x 2 parts of the encoder, 2 x 3 of the decoder.
    assert [len(found) for found in comparisons] == [12, 12]


def _IsOfBytes(op):
    return op.inputs[0].dtype == tf.uint8


def _Graph(function):
    (concrete,) = function._list_all_concrete_functions()
    return concrete.graph


def test_dropout_by_hand_keeps_the_mean_and_draws_anew_at_each_call():
    drop = step_by_hand.Dropout(0.1, tf.constant(5, tf.int64))
    ones = tf.ones([400, 64])
    first, second = drop(ones).numpy(), drop(ones).numpy()
    assert (first == 0).mean() == pytest.approx(26 / 256, abs=0.01)
    assert first.mean() == pytest.approx(1.0, abs=0.01)
    assert ((first == 0) != (second == 0)).mean() > 0.1


@pytest.mark.slow
def test_searches_find_the_same_with_and_without_cache_and_by_hand():
    task = search.make_task(search.QUICK, 'float32')
    batch = search.random_batch(search.QUICK)
    ours = search.our_search(task, batch)()
    # </s> comes at the limit, so the amount of work does not depend on the weights.
    np.testing.assert_array_equal(ours.lengths, batch.limits - 1)
    _AssertSame(search.search_of_hand(task, search.QUICK, batch)(), ours)
    _AssertSame(search.our_search(task, batch, search.RecomputingScorer)(), ours)


@pytest.mark.slow
def test_the_search_by_hand_stops_where_ours_does():
    sizes = dataclasses.replace(search.QUICK, rows=11)
    task = search.make_task(sizes, 'float32')
    # </s> is a token like others.
    bias, table = task.decoder.final_norm.vars.bias, task.embedding.vars.table
    bias.assign(tf.zeros_like(bias))
    rows = table.numpy()
    rows[task.params.eos_id] = np.random.RandomState(0).normal(scale=0.5, size=sizes.dim)
    table.assign(rows)
    batch = search.random_batch(sizes)
    batch.limits[:] = 12
    ours = search.our_search(task, batch)()
    assert len(set(ours.lengths.tolist()) - {0, 11}) > 1
    _AssertSame(search.search_of_hand(task, sizes, batch)(), ours)


def _AssertSame(found, expected):
    assert search.share_of_equal(found, expected) == 1.0
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('both', [False, True])
def test_the_lstm_of_keras_is_ours(both):
    dim = 4
    ours, theirs = recurrent.random_pass(3, 5, 6, dim, both)
    names = ['y', 'x', *recurrent.make_ours(6, dim, both).AllVariables()]
    found = dict(zip(names, ours()))
    y, x, *weights = theirs()
    np.testing.assert_allclose(found['y'], y, atol=1e-5)
    np.testing.assert_allclose(found['x'], x, atol=1e-5)
    cells = ['forward/cell', 'backward/cell'] if both else ['cell']
    wanted = [f'{cell}/{name}' for cell in cells for name in ('w', 'u', 'b')]
    assert len(weights) == len(wanted)
    for path, gradient in zip(wanted, weights):
        gradient = gradient[..., np.r_[0 : 2 * dim, 3 * dim : 4 * dim, 2 * dim : 3 * dim]]
        np.testing.assert_allclose(found[path], gradient, atol=1e-5, err_msg=path)


@pytest.mark.slow
def test_features_of_librosa_are_ours():
    waveforms = np.random.RandomState(0).normal(scale=0.1, size=[2, 3000]).astype(np.float32)
    found = hearing.our_features(waveforms)()
    assert found.shape == (2, 19, 80)
    theirs = hearing.features_of_librosa(waveforms)
    np.testing.assert_allclose(found, theirs(), atol=1e-3)


@pytest.fixture(scope='module')
def digits():
    return speech.random_digits(quick=True)


@pytest.mark.slow
def test_training_of_speech_by_hand_is_our_training(digits):
    p = speech.task_params('asr.SpokenDigits', quick=True)
    p.spec_augment.Set(freq_mask_count=0, time_mask_count=0)
    p.encoder.dropout_prob = 0.0
    p.train.lr_schedule.warmup_steps = 2  # large updates, and what follows
    p.train.lr_schedule.schedule.total_steps = 6
    p.train.optimizer.epsilon = 1e-3
    ours = speech.make_ours(p)
    initial = {path: v.numpy() for path, v in ours.task.AllVariables().items()}
    by_hand = [speech.make_by_hand(p, ours.task, kernel) for kernel in (False, True)]
    our_step = step.our_step(ours, digits)
    for _ in range(4):
        loss = our_step()
        for training in by_hand:
            assert speech.step_of_hand(training, digits)() == pytest.approx(loss, rel=1e-5)
    shadows = {path: ours.Substitutes()[v.ref()] for path, v in ours.task.AllVariables().items()}
    for path, variable in ours.task.AllVariables().items():
        assert np.abs(variable.numpy() - initial[path]).max() > 1e-4, path
        for training in by_hand:
            own, shadow = training.variables[path], training._shadows[path]
            np.testing.assert_allclose(own, variable, atol=2e-5, err_msg=path)
            np.testing.assert_allclose(shadow, shadows[path], atol=2e-5, err_msg=path)


@pytest.mark.slow
def test_training_of_speech_by_hand_draws_what_ours_draws(digits):
    """As many stretches are masked, and as much is dropped."""
    p = speech.task_params('asr.SpokenDigits', quick=True)
    ours = speech.make_ours(p)
    by_hand = speech.make_by_hand(p, ours.task)
    step.our_step(ours, digits)()
    speech.step_of_hand(by_hand, digits)()
    draws = [
        sorted(op.type for op in _Graph(function).get_operations() if _IsDraw(op))
        for function in (ours._function._function, by_hand.step)
    ]
    bytes_, places = 'StatelessRandomUniformFullIntV2', 'StatelessRandomUniformV2'
    assert draws == [[bytes_, places, places]] * 2


def _IsDraw(op):
    # What has a fixed size scrambles a seed.
    if not op.type.startswith('StatelessRandomUniform'):
        return False
    return not op.outputs[0].shape.is_fully_defined()


def test_other_hypotheses_are_noticed():
    one = NestedMap(ids=np.array([[5, 6, 7], [5, 6, 7]]), lengths=np.array([3, 2]))
    padded = NestedMap(ids=np.array([[5, 6, 7], [5, 6, 0]]), lengths=np.array([3, 2]))
    longer = NestedMap(ids=one.ids, lengths=np.array([3, 3]))
    other = NestedMap(ids=np.array([[5, 6, 8], [5, 6, 7]]), lengths=one.lengths)
    shares = [search.share_of_equal(one, each) for each in (padded, longer, other)]
    assert shares == [1.0, 0.5, 0.5]


# That each runs.


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(command.BENCHES))
def test_each_bench_runs(name):
    found = list(command.BENCHES[name](True))
    assert found
    for result in found:
        assert 0 < result.low <= result.value <= result.high
        assert result.note


@pytest.mark.slow
def test_the_command_prints_a_table_and_the_machine():
    module = [sys.executable, '-m', 'lingvo_lite.tools.bench', 'd', '--quick']
    ended = subprocess.run(module, capture_output=True, text=True, check=True)
    printed = ended.stdout.split('\n')
    assert printed[0].split() == ['bench', 'value', '95%', 'interval', 'target']
    assert re.match(r'd +\d+\.\d{3} +\d+\.\d{3} to \d+\.\d{3} +>= 3 (yes|NO)', printed[1])
    assert f'TensorFlow {tf.__version__}; --quick' in printed[2]


def test_an_unknown_bench_is_an_error_that_names_all(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(['z'])
    assert ended.value.code == 2
    assert 'no bench z; there are: a, b, c, d, d2, e, f, g, h.' in capsys.readouterr().err
