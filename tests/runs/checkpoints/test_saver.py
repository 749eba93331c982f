import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.runs.checkpoints import files, saver as saver_lib, tensors


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / 'train')


def Steps(folder):
    return [checkpoint.step for checkpoint in files.List(folder)]


def Found(*hours):
    """Checkpoints 1, 2, ... written at these hours."""
    return [files.Checkpoint(i, f'c{i}', 3600.0 * h) for i, h in enumerate(hours, 1)]


def Deleted(policy, found):
    return [checkpoint.step for checkpoint in policy.ToDelete(found)]


# Which to keep.


def test_the_last_ones_stay():
    assert Deleted(saver_lib.KeepPolicy(last=2), Found(0, 1, 2, 3)) == [1, 2]
    assert Deleted(saver_lib.KeepPolicy(last=9), Found(0, 1, 2, 3)) == []


def test_one_every_n_hours_stays():
    policy = saver_lib.KeepPolicy(last=1, every_n_hours=2.0)
    assert Deleted(policy, Found(0, 1, 2.5, 3, 4, 4.6, 5)) == [2, 4, 5]


def test_deleting_as_they_come_keeps_the_same_as_deleting_at_the_end():
    """So a restart, which knows only what is on the disk, changes nothing."""
    policy = saver_lib.KeepPolicy(last=2, every_n_hours=1.0)
    hours = np.cumsum(np.random.RandomState(0).uniform(0.0, 0.7, 60))
    hours[30:] -= 10.0  # the clock was set back
    every = Found(*hours)
    there = []
    for checkpoint in every:
        there.append(checkpoint)
        for old in policy.ToDelete(there):
            there.remove(old)
    gone = policy.ToDelete(every)
    assert there == [checkpoint for checkpoint in every if checkpoint not in gone]
    assert 10 < len(there) < 45


def test_a_clock_that_is_set_back_starts_a_new_count():
    policy = saver_lib.KeepPolicy(last=1, every_n_hours=2.0)
    assert Deleted(policy, Found(100, 101, 7, 8, 9.5, 10)) == [2, 4]


def test_protected_steps_stay_as_long_as_they_are_protected():
    waiting = {1, 3}
    policy = saver_lib.KeepPolicy(last=1, protect=lambda steps: waiting & set(steps))
    assert Deleted(policy, Found(0, 1, 2, 3)) == [2]
    waiting.clear()
    assert Deleted(policy, Found(0, 1, 2, 3)) == [1, 2, 3]


@pytest.mark.parametrize('bad', [{'last': 0}, {'every_n_hours': -1.0}])
def test_a_policy_that_keeps_nothing_is_refused(bad):
    with pytest.raises(ValueError, match='must'):
        saver_lib.KeepPolicy(**bad)


# Saving.


def test_a_full_disk_leaves_the_last_whole_checkpoint_and_the_error_names_it(folder):
    script = (
        'import resource, sys\n'
        'import numpy as np\n'
        'from lingvo_lite.runs.checkpoints.saver import AsyncSaver, KeepPolicy, SaveError\n'
        'saver = AsyncSaver(sys.argv[1], KeepPolicy())\n'
        'saver.Save(1, {"w": np.zeros(9)})\n'
        'saver.Wait()\n'
        # As a full disk does, it ends every write behind the first bytes of a file.
        'resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n'
        'try:\n'
        '    saver.Save(2, {"w": np.random.rand(9999)})\n'
        '    saver.Wait()\n'
        'except SaveError as error:\n'
        '    print(error)\n'
    )
    command = [sys.executable, '-c', script, folder]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    whole = files.PrefixOf(folder, 1)
    assert text.startswith(f'Checkpoint {folder}/ckpt-00000002 could not be written: ')
    assert text.endswith(f'training goes on from the last whole one, {whole}.\n')
    assert text.count('\n') == 1 and Steps(folder) == [1]
    assert not [name for name in os.listdir(folder) if name.startswith('.tmp-')]


def test_saves_and_keeps(folder):
    saver = saver_lib.AsyncSaver(folder, saver_lib.KeepPolicy(last=2))
    variable = tf.Variable([0.0])
    for step in (1, 2, 3):
        variable.assign([float(step)])
        prefix = saver.Save(step, {'w': variable})
    saver.Wait()
    assert prefix == files.PrefixOf(folder, 3)
    assert Steps(folder) == [2, 3]
    assert tf.train.latest_checkpoint(folder) == prefix
    for step in (2, 3):
        found = tensors.Restore(files.PrefixOf(folder, step))
        np.testing.assert_array_equal(found['w'], [step])


def test_what_changes_during_the_write_is_not_in_the_checkpoint(folder, monkeypatch):
    go = threading.Event()
    write = tensors.Write

    def SlowWrite(*args):
        assert go.wait(5)
        write(*args)

    monkeypatch.setattr(tensors, 'Write', SlowWrite)
    saver = saver_lib.AsyncSaver(folder, saver_lib.KeepPolicy())
    variable = tf.Variable([1.0])
    started = time.time()
    prefix = saver.Save(1, {'w': variable})
    variable.assign([2.0])
    saver.Check()
    assert time.time() - started < 4, 'Save must not wait for the write'
    assert Steps(folder) == []
    go.set()
    saver.Wait()
    np.testing.assert_array_equal(tensors.Restore(prefix)['w'], [1.0])


def test_one_write_is_in_flight_at_a_time(folder, monkeypatch):
    active, most = [0], [0]
    write = tensors.Write

    def Counting(*args):
        active[0] += 1
        most[0] = max(most[0], active[0])
        time.sleep(0.02)
        write(*args)
        active[0] -= 1

    monkeypatch.setattr(tensors, 'Write', Counting)
    saver = saver_lib.AsyncSaver(folder, saver_lib.KeepPolicy())
    for step in range(4):
        saver.Save(step, {'w': [1.0]})
    saver.Wait()
    assert (most[0], Steps(folder)) == (1, [0, 1, 2, 3])


@pytest.mark.parametrize('how', ['Check', 'Wait', 'Save'])
def test_a_write_that_failed_is_raised_by_what_is_called_next(folder, monkeypatch, how):
    def Full(*_):
        raise OSError(28, 'No space left on device')

    saver = saver_lib.AsyncSaver(folder, saver_lib.KeepPolicy())
    saver.Save(1, {'w': [1.0]})
    saver.Wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', Full)
        saver.Save(2, {'w': [1.0]})
        saver._thread.join()
    calls = {'Check': saver.Check, 'Wait': saver.Wait, 'Save': lambda: saver.Save(3, {'w': [1.0]})}
    with pytest.raises(saver_lib.SaveError, match='ckpt-00000002 could not be written: .*No space'):
        calls[how]()
    # Said once; then one can go on.
    saver.Save(4, {'w': [1.0]})
    saver.Wait()
    assert Steps(folder) == [1, 4]


def test_what_a_killed_writer_left_is_removed_at_the_start(folder):
    saver = saver_lib.AsyncSaver(folder, saver_lib.KeepPolicy())
    saver.Save(1, {'w': [1.0]})
    saver.Wait()
    before = sorted(os.listdir(folder))
    os.mkdir(f'{folder}/.tmp-ckpt-00000002-77-ab')
    for name in ('.tmp-ckpt-00000002-77-ab/x.data-00000-of-00001', '.tmp-checkpoint-77-ab'):
        open(f'{folder}/{name}', 'w').close()
    open(f'{folder}/ckpt-00000002.data-00000-of-00001', 'w').close()
    saver_lib.AsyncSaver(folder, saver_lib.KeepPolicy())
    assert sorted(os.listdir(folder)) == before


_TRAIN = """
import sys
import numpy as np
from lingvo_lite.runs.checkpoints.saver import AsyncSaver, KeepPolicy
saver = AsyncSaver(sys.argv[1], KeepPolicy(last=3))
print('ready', flush=True)
for step in range(1, 100000):
    saver.Save(step, {f'v{i}': np.full([300, 300], step, np.float32) for i in range(5)})
"""


@pytest.mark.slow
def test_kill_9_at_random_moments_never_leaves_half_a_checkpoint(folder):
    random = np.random.RandomState(3)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, '-c', _TRAIN, folder], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == 'ready\n'
        time.sleep(random.uniform(0.1, 0.6))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = files.List(folder)
        assert len(found) >= 1
        for checkpoint in found:
            for value in tensors.Restore(checkpoint.prefix).values():
                np.testing.assert_array_equal(value, np.full([300, 300], checkpoint.step))
