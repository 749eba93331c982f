"""The watchdog, in processes that hang: each ends for good, so it cannot be tried in this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lingvo_lite.jobs.faults import signals, watchdog

_PROGRAM = """
import ctypes, sys, threading, time
from lingvo_lite.jobs.faults import watchdog
from lingvo_lite.jobs.reporting import console

def hang_here():
    if '--locked' in sys.argv:
        ctypes.PyDLL(None).sleep(60)  # keeps Python's lock
    threading.Event().wait(60)

console.SetUpLogging()
beats, pause, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
with watchdog.Watchdog(seconds) as dog:
    print('begun', flush=True)
    for _ in range(beats):
        time.sleep(pause)
        dog.Beat()
    if '--end' not in sys.argv:
        hang_here()
"""


def start(*arguments):
    command = [sys.executable, '-c', _PROGRAM, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'begun\n'
    return process


def end(process):
    _, log = process.communicate(timeout=30)
    return process.returncode, log


def test_what_hangs_ends_with_a_code_of_its_own_and_the_stacks_of_all_threads():
    code, log = end(start(3, 0.01, 0.3))
    assert code == watchdog.EXIT_CODE == 138
    assert 'ERROR: No step was finished in 0 s (task.train.watchdog_seconds=0.3)' in log
    assert 'hang_here' in log and '_Watch' in log


def test_the_first_step_may_take_five_times_as_long():
    assert end(start(1, 0.6, 0.2, '--end'))[0] == 0
    code, log = end(start(1, 9.0, 0.2))
    assert code == watchdog.EXIT_CODE and 'The first step was not reached in' in log


def test_what_keeps_pythons_lock_before_the_first_step_is_ended_by_an_alarm():
    code, log = end(start(0, 0.0, 0.1, '--locked'))
    assert code == -signal.SIGALRM
    assert 'hang_here' in log and 'most recent call first' in log


def test_the_alarm_is_over_with_the_first_step():
    with watchdog.Watchdog(2.0) as dog:
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 10.0
        dog.Beat()
        until = time.monotonic() + 5.0
        while signal.getitimer(signal.ITIMER_REAL)[0] and time.monotonic() < until:
            time.sleep(0.01)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
    with watchdog.Watchdog(2.0):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


def test_beats_keep_it_quiet_however_long_it_takes():
    assert end(start(12, 0.05, 0.3, '--end')) == (0, '')


def test_time_in_which_the_process_was_stopped_does_not_count():
    process = start(6, 0.1, 0.5, '--end')
    time.sleep(0.2)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.9)
    process.send_signal(signal.SIGCONT)
    assert end(process) == (0, '')


def test_a_clock_that_is_set_back_changes_nothing(monkeypatch):
    ended = []
    monkeypatch.setattr(watchdog.os, '_exit', ended.append)
    monkeypatch.setattr(watchdog.faulthandler, 'dump_traceback', lambda *_, **__: None)
    monkeypatch.setattr(time, 'time', lambda: -1e9)
    with watchdog.Watchdog(0.1) as dog:
        dog.Beat()
        until = time.monotonic() + 5.0
        while not ended and time.monotonic() < until:
            time.sleep(0.01)
    assert ended[0] == watchdog.EXIT_CODE


def test_zero_is_never():
    before = threading.active_count()
    with watchdog.Watchdog(0.0):
        assert threading.active_count() == before


def test_a_signal_that_something_else_has_taken_is_taken_back():
    with signals.StopRequest() as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as TensorFlow does with a cluster
        stop.TakeBack()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.event.wait(5.0)
    assert stop.exit_code == 143


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', '3')
