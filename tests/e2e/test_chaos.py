"""A few faults on the tiny experiments; `python -m lingvo_lite.tools.chaos` injects 200."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from job_runs import steps_of


def chaos(tmp_path, *flags, timeout=1200):
    """(exit code, table, log) of a short campaign in a process of its own: it forks."""
    command = [sys.executable, '-m', 'lingvo_lite.tools.chaos', f'--folder={tmp_path}', *flags]
    found = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return found.returncode, found.stdout, found.stderr


@pytest.mark.slow
def test_a_run_that_is_killed_starved_and_damaged_loses_nothing(tmp_path):
    only = 'kill-step,kill-save,kill-evaler,term,disk-full,truncate,flip,mislead'
    code, table, log = chaos(tmp_path, '--faults=8', '--families=lm', f'--only={only}')
    assert code == 0, table + log
    row = next(line for line in table.split('\n') if line.startswith('all '))
    _, injected, recovered, lost, *_ = row.split()
    assert int(injected) >= 8 and recovered == injected and lost == '0'


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_stops_and_goes_on(tmp_path):
    only = '--only=kill-step,term,stop-worker'
    code, table, log = chaos(tmp_path, '--faults=3', '--families=mt_2_workers', only)
    assert code == 0, table + log


@pytest.mark.slow
def test_a_training_whose_worker_is_killed_comes_to_its_end(environment, tmp_path):
    run = tmp_path / 'run'
    command = [sys.executable, '-m', 'lingvo_lite.tools.chaos.kill_workers', '--at=10,15']
    command += ['--model=tiny_experiment.Digits', f'--logdir={run}', '--']
    command += ['--set=task.train.summary_interval_steps=1']
    found = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert found.returncode == 0, found.stderr
    *kills, last = found.stdout.splitlines()
    assert [re.search(r'worker \d killed', line)[0] for line in kills] == [
        'worker 1 killed',
        'worker 0 killed',
    ]
    assert last.endswith('the training is over') and steps_of(run)[-1] == 20
    assert len(os.listdir(f'{run}.logs')) == 6


def test_what_there_is_not_is_refused():
    command = [sys.executable, '-m', 'lingvo_lite.tools.chaos', '--only=earthquake']
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "no 'earthquake'; there are: kill-start" in found.stderr
