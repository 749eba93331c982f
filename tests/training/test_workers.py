"""Two and three processes, each with one replica, train as one."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', params=[2, 3])
def workers(request, tmp_path_factory):
    """{scenario: [what each worker has at its end]}."""
    folder = tmp_path_factory.mktemp('workers')
    script = os.path.join(os.path.dirname(__file__), 'one_worker.py')
    launcher = [sys.executable, '-m', 'lingvo_lite.tools.launch_local', '-n', str(request.param)]
    ended = subprocess.run(
        [*launcher, '--', sys.executable, script, str(folder)],
        env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]

    def Read(path):
        with np.load(path) as found:
            return {name.replace('|', '/'): found[name] for name in found.files}

    return {
        name: [Read(folder / f'{name}_{worker}.npz') for worker in range(request.param)]
        for name in ('overflow', 'shared')
    }


def test_all_workers_are_the_same_bit_for_bit(workers):
    for first, *others in workers.values():
        for other in others:
            assert other.keys() == first.keys()
            for name, value in first.items():
                np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_each_step_equals_that_of_one_replica(workers, tiny):
    """Batches that do not divide, a short one, one row: then the other workers have none."""
    found = workers['shared'][0]
    one = tiny.Learner(tiny.SharedParams())
    for number, rows in enumerate(tiny.SHARED_ROWS):
        numbers = one.TrainStep([tiny.Batch(rows=rows, seed=rows)]).Read()
        assert found[f'{number}/loss'] == pytest.approx(numbers.loss, rel=1e-5)
        for name, value in tiny.Values(one.State()).items():
            np.testing.assert_allclose(
                found[f'{number}/{name}'], value, rtol=1e-5, atol=1e-5, err_msg=name
            )
    before, after = (found[f'{number}/first/w'] for number in (2, 3))
    assert np.abs(after - before).max() > 1e-3


def test_an_overflow_on_one_worker_skips_the_step_on_all(workers, tiny):
    count = len(workers['overflow'])
    found = workers['overflow'][0]
    assert [bool(found[f'finite_{number}']) for number in range(4)] == [True, True, False, True]
    assert found['scale_3'] < found['scale_2']
    assert str(found['finding']) == 'output first'

    one = tiny.Learner(tiny.OverflowParams())
    for number in range(4):
        one.TrainStep([tiny.Join([tiny.OverflowBatch(w, number) for w in range(count)])])
    for name, value in tiny.Values(one.State()).items():
        np.testing.assert_allclose(found[name], value, rtol=0.02, atol=1e-3, err_msg=name)
