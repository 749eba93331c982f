"""Two and three processes, each with one replica, train as one."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow
HERE = os.path.dirname(__file__)
# What replicas share something of: batch norm, and losses by token, with label smoothing.
EXPERIMENTS = ['asr.LibrispeechMini', 'mt.NumbersEnDe']


def Run(folder, count, scenarios):
    """{scenario: [what each of `count` workers found]}."""
    launcher = [sys.executable, '-m', 'lingvo_lite.tools.launch_local', '-n', str(count)]
    script = os.path.join(HERE, 'one_worker.py')
    ended = subprocess.run(
        [*launcher, '--', sys.executable, script, str(folder), *scenarios],
        env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]

    def Read(path):
        with np.load(path) as found:
            return {name.replace('|', '/'): found[name] for name in found.files}

    return {
        name: [Read(folder / f'{name}_{worker}.npz') for worker in range(count)]
        for name in scenarios
    }


@pytest.fixture(scope='module', params=[2, 3])
def workers(request, tmp_path_factory):
    """Of the tiny task."""
    return Run(tmp_path_factory.mktemp('workers'), request.param, ['overflow', 'shared'])


@pytest.fixture(scope='module')
def two_workers(tmp_path_factory):
    """Of whole tasks."""
    return Run(tmp_path_factory.mktemp('two_workers'), 2, EXPERIMENTS)


@pytest.fixture(scope='module')
def whole():
    """The tasks, batches and steps that replicas of one process are compared with, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.path.join(os.path.dirname(HERE), 'tasks'))
        import test_one_equals_many
    return test_one_equals_many


def State(found, number):
    """{path: value} after a step."""
    start = f'{number}/'
    return {name[len(start) :]: value for name, value in found.items() if name.startswith(start)}


def AssertAllTheSame(first, *others):
    """Bit for bit."""
    for other in others:
        assert other.keys() == first.keys()
        for name, value in first.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def AssertStep(found, number, numbers, learner):
    """The step of the workers was that of `learner`, whose result is `numbers`."""
    assert found[f'{number}.loss'] == pytest.approx(numbers.loss, rel=1e-5)
    state = State(found, number)
    assert state.keys() == learner.State().keys()
    for name, variable in learner.State().items():
        np.testing.assert_allclose(
            state[name], variable.numpy(), rtol=1e-5, atol=1e-5, err_msg=name
        )


def test_all_workers_are_the_same_bit_for_bit(workers):
    for found in workers.values():
        AssertAllTheSame(*found)


def test_each_step_equals_that_of_one_replica(workers, tiny):
    """Batches that do not divide, a short one, one row: then the other workers have none."""
    found = workers['shared'][0]
    one = tiny.Learner(tiny.SharedParams())
    for number, rows in enumerate(tiny.SHARED_ROWS):
        numbers = one.TrainStep([tiny.Batch(rows=rows, seed=rows)]).Read()
        AssertStep(found, number, numbers, one)
    before, after = (found[f'{number}/first/w'] for number in (2, 3))
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_each_step_of_a_whole_task_equals_that_of_one_replica(two_workers, whole, tiny, name):
    """Batch norm's averages included; the second batch has one example, so a worker has none."""
    AssertAllTheSame(*two_workers[name])
    found = two_workers[name][0]
    p = whole.Params(name)
    one = tiny.Learner(p)
    averages = [path for path in one.State() if path.endswith(('moving_mean', 'moving_variance'))]
    assert bool(averages) == (name == 'asr.LibrispeechMini')
    for number, ids in enumerate(whole.STEPS):
        before = tiny.Values(one.State())
        numbers = one.TrainStep(whole.Batches(p, ids, 1)).Read()
        AssertStep(found, number, numbers, one)
        after = tiny.Values(one.State())
        moved = {path: np.abs(after[path] - before[path]).max() for path in after}
        assert max(moved[path] for path in one.task.TrainableVariables()) > 5e-3
        assert all(moved[path] > 1e-4 for path in averages)


def test_an_overflow_on_any_worker_skips_the_step_on_all(workers, tiny):
    count = len(workers['overflow'])
    found = workers['overflow'][0]
    one = tiny.Learner(tiny.OverflowParams())
    last = 3 * count
    for number in range(last + 1):
        one.TrainStep([tiny.Join([tiny.OverflowBatch(w, number) for w in range(count)])])
        overflow = (None, 'output first', 'gradient second')[number % 3]
        assert bool(found[f'{number}.finite']) == (overflow is None)
        if overflow:
            assert str(found[f'{number}.finding']) == overflow
            assert np.isfinite(found[f'{number}.loss']) == (number % 3 == 2)
            assert found[f'{number + 1}.loss_scale'] == found[f'{number}.loss_scale'] / 2
            before, after = (State(found, n) for n in (number - 1, number))
            changed = {path for path in after if not np.array_equal(after[path], before[path])}
            counters = {path for path in changed if not path.startswith('.loss_scale/')}
            assert counters == {'.step', '.skipped', '.skipped_in_a_row'}
    assert found[f'{last}/.skipped'] == 2 * count and found[f'{last}/.skipped_in_a_row'] == 0
    state = State(found, last)
    for path, value in tiny.Values(one.State()).items():
        np.testing.assert_allclose(state[path], value, rtol=0.02, atol=1e-3, err_msg=path)
