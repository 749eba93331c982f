"""Trainer, evaler and decoder as processes that share nothing but a log directory."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import numpy as np
import pytest
from job_runs import assert_equal_checkpoints, lines, steps_of

from lingvo_lite.runs.checkpoints import tensors
from lingvo_lite.tools import launch_local

LONG = ['--set=task.train.max_steps=300', '--set=task.train.save_interval_steps=20']


def end(process, code=0, timeout=240):
    """Waits for a process; returns (stdout, stderr)."""
    out, error = process.communicate(timeout=timeout)
    assert process.returncode == code, error.decode()
    return out.decode(), error.decode()


def wait_for(condition, what, timeout=240):
    """Waits until `condition()` holds."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f'{what} did not happen'
        time.sleep(0.02)


def saved(run, step):
    return lambda: os.path.isdir(f'{run}/train') and any(s >= step for s in steps_of(run))


def decoded(run):
    """All that a decoder has written, by file."""
    folder = run / 'decode_dev'
    return {name: (folder / name).read_text() for name in os.listdir(folder) if 'decoded' in name}


def test_jobs_need_not_wait_for_each_other(start, tmp_path):
    run = tmp_path / 'run'
    early = [start('evaler', run, '--dataset=Dev'), start('decoder', run, '--dataset=Test')]
    out, log = end(start('trainer', run))
    assert out == '' and 'Finished at step 20' in log
    for process in early:
        end(process)
    late = start('decoder', run, '--input=-', stdin=-1)
    out, _ = late.communicate(b'12\n\n7\n', timeout=240)
    assert out.count(b'\n') == 3 and out.split(b'\n')[1] == b''
    assert b'waiting' not in out.lower()
    for folder in ('eval_dev', 'decode_test'):
        steps = [line['step'] for line in lines(run, folder)]
        assert sorted(steps) == [5, 10, 15, 20]
    assert json.loads((run / 'best/score.json').read_text())['metric'] == 'eval_dev/log_pplx'


def test_killed_and_started_again_equals_undisturbed(start, tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    first = start('trainer', killed, *LONG)
    wait_for(saved(killed, 60), 'the checkpoint of step 60')
    first.kill()
    first.wait()
    assert steps_of(killed)[-1] < 300, 'the run was over before it was killed'
    end(start('trainer', killed, *LONG))
    end(start('trainer', whole, *LONG))
    assert_equal_checkpoints(killed, whole, 300)
    assert lines(killed) == lines(whole)


@pytest.mark.slow
def test_five_kills_at_random_moments(start, tmp_path):
    """Trainer, evaler and decoder at once, all killed with -9 five times, at any moment."""
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    flags = [*LONG, '--set=task.train.save_max_to_keep=100']
    end(start('trainer', whole, *flags))
    end(start('evaler', whole, '--dataset=Dev'))
    end(start('decoder', whole, '--dataset=Dev'))
    draw = random.Random(5)

    def StartAll():
        return [
            start('trainer', killed, *flags),
            start('evaler', killed, '--dataset=Dev'),
            start('decoder', killed, '--dataset=Dev'),
        ]

    for kill in range(5):
        jobs = StartAll()
        goal = 20 + 40 * kill
        wait_for(saved(killed, goal), f'the checkpoint of step {goal}')
        for process in draw.sample(jobs, 3):
            time.sleep(draw.random() * 0.2)
            process.kill()
            process.wait()
    assert steps_of(killed)[-1] < 300, 'the run was over before it was killed five times'
    for process in StartAll():
        end(process)
    assert_equal_checkpoints(killed, whole, 300)
    assert lines(killed) == lines(whole)
    for folder in ('eval_dev', 'decode_dev'):
        mine, theirs = ({x['step']: x for x in lines(r, folder)} for r in (killed, whole))
        assert len(lines(killed, folder)) == len(mine), 'a score was written twice'
        assert mine == theirs
    assert decoded(killed) == decoded(whole)


@pytest.mark.slow
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_trainer_that_is_asked_to_stop_says_so_by_its_exit_code(start, tmp_path, number, code):
    run = tmp_path / 'run'
    process = start('trainer', run, '--set=task.train.max_steps=100000')
    wait_for(saved(run, 10), 'the checkpoint of step 10')
    process.send_signal(number)
    _, log = end(process, code)
    step = steps_of(run)[-1]
    assert f'Stopped at step {step}; everything is saved.' in log
    metrics = lines(run)
    assert metrics[-1]['step'] == step


@pytest.mark.slow
def test_a_waiting_evaler_ends_when_asked_and_keeps_others_out(start, tmp_path):
    run = tmp_path / 'run'
    end(start('trainer', run, '--set=task.train.max_steps=5'))
    os.remove(run / 'train/FINISHED')  # as if training went on
    first = start('evaler', run, '--dataset=Dev')
    wait_for(lambda: len(lines(run, 'eval_dev')) == 1, 'the score of step 5')
    _, error = end(start('evaler', run, '--dataset=Dev'), 2)
    assert error.startswith(f'evaler: {run}/eval_dev is in use by evaler Dev (pid {first.pid} ')
    assert error.count('\n') == 1
    first.send_signal(signal.SIGTERM)
    end(first, 143)
    assert len(lines(run, 'eval_dev')) == 1


@pytest.mark.slow
def test_two_workers_train_like_two_replicas(start, tmp_path):
    flags = ['--set=task.train.max_steps=10']
    end(start('trainer', tmp_path / 'mirrored', *flags, '--strategy=mirrored'))
    workers = [
        start('trainer', tmp_path / 'workers', *flags, env=env) for env in launch_local.Cluster(2)
    ]
    for worker in workers:
        end(worker)
    assert [x['step'] for x in lines(tmp_path / 'workers')] == [5, 10]
    one, two = (
        tensors.Restore(str(tmp_path / name / 'train/ckpt-00000010'))
        for name in ('mirrored', 'workers')
    )
    assert one.keys() == two.keys()
    key = 'decoder/layers_0/cross_attention/key_value/w'
    np.testing.assert_allclose(one[key], two[key], atol=1e-4)
