"""A trainer whose input hangs ends by itself, shows where it hung, and can go on."""

from __future__ import annotations

import re

import pytest
from job_runs import lines, steps_of

pytestmark = pytest.mark.slow
HANGING = '--model=hanging_experiment.Hanging'
# The first step, with TensorFlow's start, may take five times as long: 75 s.
PATIENCE = '--set=task.train.watchdog_seconds=15'


def end(process, code):
    """Waits for a trainer; returns its log."""
    _, log = process.communicate(timeout=240)
    assert process.returncode == code, log.decode()
    return log.decode()


def test_input_that_hangs_ends_the_trainer_which_can_be_started_again(start, tmp_path):
    run = tmp_path / 'run'
    log = end(start('trainer', run, HANGING, PATIENCE, '--set=input.hang_at=12'), 138)
    assert re.search(r'No step was finished in 1\d s \(task.train.watchdog_seconds=15\)', log)
    stacks = log.split('(most recent call first):')[1:]
    # Where the input hangs, and where training waits for it.
    assert any('hanging_experiment.py' in stack and 'in _Load' in stack for stack in stacks)
    assert any('trainer.py' in stack and 'in _Loop' in stack for stack in stacks)
    assert steps_of(run) == [5, 10]  # of 12 steps

    log = end(start('trainer', run, HANGING), 0)
    assert f'Going on from {run}/train/ckpt-00000010' in log
    assert [line['step'] for line in lines(run)] == [5, 10, 15, 20]
