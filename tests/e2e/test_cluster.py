"""Several trainers as one: started by the launcher, stopped, gone on with by another number."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import counting_experiment
import numpy as np
import pytest
from job_runs import steps_of

from lingvo_lite.runs.checkpoints import tensors
from lingvo_lite.tools import launch_local

pytestmark = pytest.mark.slow
COUNTING = '--model=counting_experiment.Counting'


@pytest.fixture
def launch(environment):
    """launch(number of workers, run, *flags) -> Popen of the launcher; killed at the end."""
    started = []

    def Launch(workers, run, *flags):
        command = [sys.executable, '-m', 'lingvo_lite.tools.launch_local', '-n', str(workers), '--']
        command += ['trainer', COUNTING, f'--logdir={run}', *flags]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield Launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process, code=0):
    """Waits for a launcher; returns its log."""
    _, log = process.communicate(timeout=300)
    assert process.returncode == code, log
    return log


def until_step(step):
    return f'--set=task.train.max_steps={step}'


def wait_for_checkpoint(run, step, process):
    """Waits until there is one of that step or a later one."""
    deadline = time.monotonic() + 300
    while not (os.path.isdir(run / 'train') and any(s >= step for s in steps_of(run))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def state_of(run, step):
    return tensors.Restore(str(run / 'train' / f'ckpt-{step:08d}'))


def test_two_workers_then_three_then_one_see_each_example_once_an_epoch(launch, tmp_path):
    run, alone = tmp_path / 'run', tmp_path / 'alone'
    log = end(launch(2, run, until_step(33)))
    assert re.search(r'^\[0\] .*2 workers \(TF_CONFIG\).*this is worker 0', log, re.M)
    assert 'Finished at step 33' in log

    three = launch(3, run, until_step(10**6))
    wait_for_checkpoint(run, 50, three)
    three.send_signal(signal.SIGTERM)
    log = end(three, 143)
    stopped = steps_of(run)[-1]
    assert f'Stopped at step {stopped}; everything is saved.' in log and stopped >= 50

    last = stopped + 27
    log = end(launch(1, run, until_step(last)))
    assert f'Going on from {run}/train/ckpt-{stopped:08d}' in log
    end(launch(1, alone, until_step(last)))

    found, wanted = state_of(run, last), state_of(alone, last)
    # SGD subtracts 1.0 for each time: the numbers are whole.
    np.testing.assert_array_equal(found['seen'], wanted['seen'])
    times = -found['seen']
    assert set(times) <= {times.max(), times.max() - 1} and times.max() >= 2
    assert len(times) == counting_experiment.NUM_EXAMPLES
    assert found['.input_state'] == wanted['.input_state']
    np.testing.assert_allclose(found['w'], wanted['w'], rtol=1e-4, atol=1e-5)
    assert np.abs(found['w'] - state_of(alone, steps_of(alone)[0])['w']).max() > 1e-3


def test_a_slurm_step_of_two_tasks(start, tmp_path):
    """Two processes with the variables that srun sets."""
    run = tmp_path / 'run'
    workers = []
    for rank in range(2):
        slurm = {
            'SLURM_JOB_ID': str(os.getpid()),  # the ports follow from it
            'SLURM_STEP_NUM_TASKS': '2',
            'SLURM_STEP_NODELIST': 'localhost',
            'SLURM_STEP_TASKS_PER_NODE': '2',
            'SLURM_PROCID': str(rank),
            'SLURMD_NODENAME': 'localhost',
        }
        flags = [COUNTING, until_step(10)]
        workers.append(start('trainer', run, *flags, env=slurm))
    logs = []
    for worker in workers:
        _, log = worker.communicate(timeout=300)
        assert worker.returncode == 0, log.decode()
        logs.append(log.decode())
    for rank, log in enumerate(logs):
        assert re.search(rf'2 workers \(Slurm\).*this is worker {rank}', log)
    seen = state_of(run, 10)['seen']
    assert set(seen) == {0.0, -1.0}  # and so no worker trained on the whole


def test_a_killed_worker_ends_the_cluster_and_the_same_command_goes_on(launch, tmp_path):
    run = tmp_path / 'run'
    cluster = launch(2, run, until_step(10**6))
    wait_for_checkpoint(run, 20, cluster)
    (second,) = [pid for pid in children_of(cluster.pid) if worker_of(pid) == 1]
    os.kill(second, signal.SIGKILL)
    log = end(cluster, 128 + 9)
    assert 'launch_local: worker 1 ended with exit code 137' in log
    step = steps_of(run)[-1]
    log = end(launch(2, run, until_step(step + 5)))
    assert f'Finished at step {step + 5}' in log
    times = -state_of(run, step + 5)['seen']
    assert times.max() - times.min() <= 1


@pytest.mark.parametrize(
    'what, begun, other_run, other_flags',
    [
        ('the checkpoints', True, 'elsewhere', []),  # each machine has a log directory for itself
        ('the params', False, 'run', ['--set=task.random_seed=5']),
    ],
)
def test_a_worker_that_holds_something_else_is_found(
    start, tmp_path, what, begun, other_run, other_flags
):
    run = tmp_path / 'run'
    if begun:
        start('trainer', run, COUNTING, until_step(10)).communicate(timeout=300)
    workers = []
    for index, env in enumerate(launch_local.Cluster(2)):
        flags = [COUNTING, until_step(20), '--strategy=multi_worker']
        folder, more = (tmp_path / other_run, other_flags) if index else (run, [])
        workers.append(start('trainer', folder, *flags, *more, env=env))
    lines = []
    for worker in workers:
        _, log = worker.communicate(timeout=300)
        assert worker.returncode == 2, log.decode()
        lines.append(log.decode().strip().split('\n')[-1])
    assert 'Another worker does not hold what worker 0 holds. All workers need' in lines[0]
    assert f'trainer: {what} of worker 1 are not those of worker 0. All workers need' in lines[1]
    assert steps_of(run) == ([10] if begun else [])


def children_of(pid):
    with open(f'/proc/{pid}/task/{pid}/children') as file:
        return [int(child) for child in file.read().split()]


def worker_of(pid):
    """The number in TF_CONFIG of a process; None if it has none."""
    with open(f'/proc/{pid}/environ') as file:
        found = re.search(r'TF_CONFIG=.*?"index": (\d+)', file.read())
    return int(found[1]) if found else None
