import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from lingvo_lite import hyperparams
from lingvo_lite.runs import atomic, locks

_HOLD = """
import sys, time
from lingvo_lite.runs import locks
try:
    lock = locks.JobLock(sys.argv[1], 'evaler Dev')
except locks.LockedError as error:
    print('refused', error, flush=True)
else:
    print('held', flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def Holders(folder, count):
    """Processes that take the lock; yields [(process, first line of output)]."""
    command = [sys.executable, '-c', _HOLD, str(folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        yield [(process, process.stdout.readline()) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def Forge(folder, **record):
    """A lock.json as another host would have left it."""
    path = str(folder / 'lock.json')
    atomic.WriteJson(path, {'job': 'evaler Dev', 'pid': 7, **record})


def test_of_many_that_start_at_once_one_gets_the_lock(tmp_path):
    with Holders(tmp_path, 5) as holders:
        lines = [line for _, line in holders]
    assert sum(line == 'held\n' for line in lines) == 1, lines
    assert sum(line.startswith('refused') for line in lines) == 4, lines


def test_the_refusal_says_who_holds_it(tmp_path):
    with Holders(tmp_path, 1) as [(holder, _)]:
        with pytest.raises(locks.LockedError) as error:
            locks.JobLock(str(tmp_path), 'evaler Dev')
    text = str(error.value)
    assert text.startswith(f'{tmp_path} is in use by evaler Dev (pid {holder.pid} on ')
    assert text.endswith('stop that one, or use another dataset or --logdir.')


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, caplog):
    with Holders(tmp_path, 1) as [(holder, line)]:
        assert line == 'held\n'
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with locks.JobLock(str(tmp_path), 'evaler Dev'):
            assert json.loads((tmp_path / 'lock.json').read_text())['pid'] == os.getpid()
    assert f'taking over the lock of evaler Dev (pid {holder.pid}' in caplog.text


def test_a_second_lock_in_the_same_process_is_refused(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path)
    with locks.JobLock(str(tmp_path), 'evaler Dev'):
        with pytest.raises(locks.LockedError):
            locks.JobLock(str(tmp_path), 'evaler Dev')
        with pytest.raises(locks.LockedError):
            locks.JobLock(str(tmp_path / 'link'), 'evaler Dev')


def test_a_refusal_in_the_same_process_does_not_let_go_of_the_lock(tmp_path):
    with locks.JobLock(str(tmp_path), 'evaler Dev'):
        with pytest.raises(locks.LockedError):
            locks.JobLock(str(tmp_path), 'evaler Dev')
        with Holders(tmp_path, 1) as [(_, line)]:
            assert line.startswith('refused')


def test_a_released_lock_is_free(tmp_path):
    lock = locks.JobLock(str(tmp_path), 'evaler Dev')
    lock.Release()
    lock.Release()
    assert not (tmp_path / 'lock.json').exists()
    with Holders(tmp_path, 1) as [(_, line)]:
        assert line == 'held\n'


def test_another_host_holds_it_while_its_heartbeat_is_young(tmp_path):
    Forge(tmp_path, host='elsewhere', since='noon')
    with pytest.raises(locks.LockedError, match=r'evaler Dev \(pid 7 on elsewhere, since noon\)'):
        locks.JobLock(str(tmp_path), 'evaler Dev')


def test_the_lock_of_another_host_is_taken_over_when_its_heartbeat_is_old(tmp_path, caplog):
    Forge(tmp_path, host='elsewhere')
    old = time.time() - 1000
    os.utime(tmp_path / 'lock.json', (old, old))
    with locks.JobLock(str(tmp_path), 'evaler Dev'):
        pass
    assert 'last sign of life was 1000 s ago' in caplog.text


def SetFuture(path):
    tomorrow = time.time() + 86400
    os.utime(path, (tomorrow, tomorrow))


def test_a_heartbeat_from_the_future_counts_only_if_another_comes(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks, '_HEARTBEAT_S', 0.5)
    Forge(tmp_path, host='elsewhere')
    SetFuture(tmp_path / 'lock.json')  # the clock was set back since
    beat = threading.Timer(0.2, os.utime, [tmp_path / 'lock.json'])
    beat.start()
    with pytest.raises(locks.LockedError, match='in use by evaler Dev'):
        locks.JobLock(str(tmp_path), 'evaler Dev')
    beat.join()
    SetFuture(tmp_path / 'lock.json')
    with locks.JobLock(str(tmp_path), 'evaler Dev'):
        pass
    assert 'its last sign of life was before the clock was set back' in caplog.text


def test_a_lock_whose_folder_was_removed_is_lost_at_once(tmp_path):
    folder = tmp_path / 'train'
    folder.mkdir()
    with locks.JobLock(str(folder), 'trainer') as lock:
        lock.Check()
        shutil.rmtree(folder)
        with pytest.raises(locks.LockedError, match='someone who removed lock.json'):
            lock.Check()


def test_the_heartbeat_goes_on_and_notices_a_take_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, '_HEARTBEAT_S', 0.02)
    with locks.JobLock(str(tmp_path), 'evaler Dev') as lock:
        os.utime(tmp_path / 'lock.json', (0, 0))
        WaitUntil(lambda: os.stat(tmp_path / 'lock.json').st_mtime > 0)
        lock.Check()
        Forge(tmp_path, host='elsewhere', token='other')
        WaitUntil(lambda: lock._lost)
        with pytest.raises(locks.LockedError, match='taken over by evaler Dev .pid 7 on elsewhere'):
            lock.Check()
    assert (tmp_path / 'lock.json').exists(), 'it belongs to the other host'


def test_a_file_system_without_locks_is_refused_with_that_reason(tmp_path, monkeypatch):
    def NoLocks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr('fcntl.lockf', NoLocks)
    with pytest.raises(hyperparams.ConfigError, match='has no file locks .No locks available'):
        locks.JobLock(str(tmp_path), 'evaler Dev')


def WaitUntil(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError('That did not happen within 4 s.')
