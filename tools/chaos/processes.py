"""Jobs as processes: started, harmed, waited for.

Most are forked from this process, which has TensorFlow imported and has computed nothing: seconds
less for each of hundreds of starts. A cold start is the command that a user gives.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Callable, Optional

_POLL_S = 0.002
_AT_START = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


class Failure(Exception):
    """A job did not do what it has to do."""


class Job:
    """A running job.

    Attributes:
      name: 'trainer', 'trainer1', 'evaler', 'decoder'.
      pid: of the process.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: str,
        environment: Optional[dict[str, str]] = None,
        cold: bool = False,
        before: Callable[[], None] = lambda: None,
    ):
        """Starts it.

        Args:
          name: the command's, with a number behind it if there are several.
          arguments: of the command.
          log: file for its output.
          environment: variables that are set besides those of this process.
          cold: whether to start Python anew.
          before: called in the forked process, before the command.
        """
        self.name = name
        self._log = log
        self._code: Optional[int] = None
        with open(log, 'ab'):
            pass
        command = re.sub(r'\d+$', '', name)
        if cold:
            self.pid = _Spawn(command, arguments, log, environment or {})
        else:
            self.pid = _Fork(command, arguments, log, environment or {}, before)

    def Signal(self, number: int) -> None:
        """Sends a signal, if the process is still there."""
        if self.Code() is None:
            os.kill(self.pid, number)

    def Code(self) -> Optional[int]:
        """The exit code, negative for a signal; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def Wait(self, seconds: float) -> int:
        """The exit code, as soon as there is one.

        Raises:
          Failure: if there is none in so many seconds; the process is killed then.
        """
        until = time.monotonic() + seconds
        while self.Code() is None:
            if time.monotonic() > until:
                self.Kill()
                raise Failure(f'{self.name} did not end within {seconds:.0f} s: {self.LastLine()}')
            time.sleep(_POLL_S)
        return self._code or 0

    def Kill(self) -> None:
        """kill -9, and waits until it is gone."""
        self.Signal(signal.SIGKILL)
        while self.Code() is None:
            time.sleep(_POLL_S)

    def Log(self) -> str:
        """What it has written."""
        with open(self._log, encoding='utf-8', errors='replace') as file:
            return file.read()

    def LastLine(self) -> str:
        """The last line of its log."""
        return (self.Log().strip().split('\n') or [''])[-1]


def WaitFor(condition: Callable[[], bool], jobs: Sequence[Job], seconds: float) -> bool:
    """Waits until a condition holds; False if one of the jobs ends, or it takes too long."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until or any(job.Code() is not None for job in jobs):
            return False
        time.sleep(_POLL_S)
    return True


def InChild(function: Callable[[], None]) -> None:
    """Calls a function in a process of its own: what it computes must not start TensorFlow here.

    Raises:
      Failure: if it raises anything.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise Failure(f'{function} failed')


def SetClockBack(after_s: float, by_s: float) -> None:
    """Makes this process's clock of the day jump back, once, a while from now."""
    real, at = time.time, time.monotonic() + after_s
    time.time = lambda: real() - (by_s if time.monotonic() > at else 0.0)


def _Spawn(command: str, arguments: Sequence[str], log: str, environment: dict[str, str]) -> int:
    with open(log, 'ab') as file:
        process = subprocess.Popen(
            [sys.executable, '-m', 'lingvo_lite.cli', command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
        )
    process.returncode = 0  # this module waits for it
    return process.pid


def _Fork(
    command: str,
    arguments: Sequence[str],
    log: str,
    environment: dict[str, str],
    before: Callable[[], None],
) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _AT_START)  # until they mean what a job means by them
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AT_START)
        return pid
    code = 1
    try:
        with _Redirected(log):
            for number, handler in _AT_START.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _AT_START)
            os.environ.update(environment)
            sys.argv = ['lingvo_lite', command, *arguments]
            before()
            try:  # python -m lingvo_lite.cli
                runpy.run_module('lingvo_lite.cli', run_name='__main__', alter_sys=True)
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                traceback.print_exc()
            for thread in threading.enumerate():
                if not thread.daemon and thread is not threading.current_thread():
                    thread.join()
    finally:
        os._exit(code)  # what this process would do at its end is not the job's to do


@contextlib.contextmanager
def _Redirected(log: str) -> Iterator[None]:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (fd, 1), (fd, 2)):
        os.dup2(source, target)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
