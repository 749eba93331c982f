"""A cluster of processes on this machine.

    python -m lingvo_lite.tools.launch_local -n 2 -- trainer --model=mt.NumbersEnDe --logdir=RUN

starts the command once for each worker, with TF_CONFIG on free ports of 127.0.0.1. `trainer` is
lingvo_lite's, with --strategy=multi_worker; anything else is a program that reads TF_CONFIG by
itself. Each line of output is labelled: `[1] ...` is of worker 1.

Ctrl-C, SIGTERM and SIGHUP go to all workers, which then have all the time that they need to save,
also those that are left when others have stopped; a second Ctrl-C or SIGTERM kills them at once.
When a worker fails, the others are asked to end (SIGTERM) and killed after --grace seconds. Where a
worker ends by a SIGTERM or Ctrl-C of its own, the others may be saving: they are not asked, but
killed after --grace seconds too. The exit code is that of the first worker that failed: 128 + n if
signal n ended it, or if nothing but a second signal n did; 2 if the command line is wrong.

No worker outlives the launcher, kill -9 included: all are in the process group of a guardian, a
shell that waits at a pipe from the launcher. The pipe closes when the launcher ends, in whatever
way, and the guardian kills the group. Against PR_SET_PDEATHSIG: it works on macOS too, and reaches
what the workers have started themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Optional

from lingvo_lite import flag_types

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Exit codes of a worker that was asked to stop; 128 + SIGINT, 128 + SIGTERM.
_ASKED = (130, 143)
_ENDS = '\r\n'


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"launch_local: {message} ('--help' shows all flags.)\n")


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the cluster; returns the exit code."""
    parser = Parser()
    flags = parser.parse_args(argv)
    try:
        command = WorkersCommand(flags.command)
        gpus = Gpus(flags.n, flags.gpus_per_worker, os.environ)
    except ValueError as error:
        parser.error(str(error))
    environments = [
        {**os.environ, **own, **seen} for own, seen in zip(Cluster(flags.n), gpus or [{}] * flags.n)
    ]
    return _Cluster(command, environments, flags.grace).Run()


def Parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = _Parser(
        prog='launch_local',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        '-n', metavar='N', type=flag_types.Count, required=True, help='number of workers'
    )
    parser.add_argument(
        '--grace',
        metavar='SECONDS',
        type=flag_types.Seconds,
        default=30.0,
        help='what the others have when a worker has ended, before they are killed (default: 30)',
    )
    parser.add_argument(
        '--gpus_per_worker',
        metavar='N',
        type=flag_types.Natural,
        help='GPUs for each worker to see, by CUDA_VISIBLE_DEVICES; default: all workers see all',
    )
    parser.add_argument(
        'command',
        nargs='+',
        metavar='COMMAND',
        help='behind `--`: trainer --model=... --logdir=...',
    )
    return parser


def WorkersCommand(command: Sequence[str]) -> list[str]:
    """What is run for each worker.

    Raises:
      ValueError: if it cannot be run, or is no command for several workers.
    """
    program, *rest = command
    if program in ('evaler', 'decoder'):
        raise ValueError(f'{program} is one process; several train: trainer --model=...')
    if program == 'trainer':
        if not any(flag.split('=')[0] == '--strategy' for flag in rest):
            rest.append('--strategy=multi_worker')
        return [sys.executable, '-m', 'lingvo_lite.cli', 'trainer', *rest]
    if program.startswith('-'):
        raise ValueError(f'the command comes behind `--` and begins with its name, not {program}.')
    if shutil.which(program) is None:
        raise ValueError(f'there is no program {program!r}.')
    return [program, *rest]


def Gpus(
    workers: int, each: Optional[int], environment: Mapping[str, str]
) -> Optional[list[dict[str, str]]]:
    """{'CUDA_VISIBLE_DEVICES': ...} of each worker; None if nothing is to be set.

    Args:
      workers: number of workers.
      each: GPUs of a worker; None to leave them as they are.
      environment: where CUDA_VISIBLE_DEVICES may name those to give away; else they are 0, 1, ...

    Raises:
      ValueError: if fewer are named than are needed.
    """
    if each is None:
        return None
    wanted = workers * each
    named = environment.get('CUDA_VISIBLE_DEVICES')
    devices = [str(n) for n in range(wanted)] if named is None else named.split(',')
    devices = [device for device in devices if device]
    if len(devices) < wanted:
        raise ValueError(
            f'--gpus_per_worker={each} for {workers} workers takes {wanted} GPUs, and '
            f'CUDA_VISIBLE_DEVICES={named} has {len(devices)}.'
        )
    return [
        {'CUDA_VISIBLE_DEVICES': ','.join(devices[each * n : each * (n + 1)])}
        for n in range(workers)
    ]


def Cluster(workers: int) -> list[dict[str, str]]:
    """{'TF_CONFIG': ...} of each worker of a cluster on free ports of 127.0.0.1."""
    addresses = [f'127.0.0.1:{port}' for port in FreePorts(workers)]
    configs = [
        {'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': index}}
        for index in range(workers)
    ]
    return [{'TF_CONFIG': json.dumps(config)} for config in configs]


def FreePorts(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now.

    Another process may take one before it is used: its worker then ends with an error, and so does
    the cluster.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class _Cluster:
    """The running processes."""

    def __init__(
        self, command: Sequence[str], environments: Sequence[Mapping[str, str]], grace: float
    ):
        self._command = command
        self._environments = environments
        self._grace = grace
        self._workers: list[subprocess.Popen[bytes]] = []
        # (worker, exit code) of those that have ended; (None, signal) of those to be passed on
        self._news: queue.SimpleQueue[tuple[Optional[int], int]] = queue.SimpleQueue()
        self._writing = threading.Lock()

    def Run(self) -> int:
        """Starts everything, waits, and leaves nothing behind; returns the exit code."""
        before = {}
        for number in _STOPS:
            handler = signal.getsignal(number)
            if handler != signal.SIG_IGN:  # as under nohup
                before[number] = handler
                signal.signal(number, lambda number, frame: self._news.put((None, number)))
        guardian = _Guardian()
        threads = []
        try:
            for environment in self._environments:
                self._workers.append(
                    subprocess.Popen(
                        self._command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        preexec_fn=guardian.Join,
                    )
                )
            for worker, process in enumerate(self._workers):
                threads += [
                    _Thread(self._Label, worker, process.stdout, sys.stdout),
                    _Thread(self._Label, worker, process.stderr, sys.stderr),
                ]
                _Thread(self._Await, worker, process)
            return self._Watch()
        finally:
            guardian.EndAll()
            for thread in threads:
                thread.join(timeout=5)  # what left the group may hold the pipe
            for number, handler in before.items():
                signal.signal(number, handler)

    def _Watch(self) -> int:
        """Waits until all have ended; passes signals on; ends all when one fails."""
        alive = set(range(len(self._workers)))
        code, until, stopping = 0, float('inf'), False
        while alive:
            try:
                left = until - time.monotonic()
                worker, value = self._news.get(
                    timeout=None if left == float('inf') else max(left, 0)
                )
            except queue.Empty:
                self._Say(f'killing what still runs after {self._grace:g} s: {_Names(alive)}')
                return code  # the guardian does it
            if worker is None:
                if not stopping:
                    stopping = True
                    # Workers know SIGTERM; a terminal that closes means no more.
                    self._Send(alive, signal.SIGTERM if value == signal.SIGHUP else value)
                    self._Say(f'{signal.Signals(value).name} passed on; once more ends at once.')
                elif value != signal.SIGHUP:  # a closing terminal may send two
                    self._Say(f'killing at once: {_Names(alive)}')
                    # Not passed on: a worker inside TensorFlow's start does not get to see it.
                    return code or 128 + value  # the guardian does it
                continue
            alive.discard(worker)
            if not value:
                continue
            asked = value in _ASKED
            if not asked or not code:
                self._Say(f'worker {worker} ended with exit code {value}')
            if until == float('inf') and alive and not (asked and stopping):
                until = time.monotonic() + self._grace
                if not asked and not stopping:  # a second signal would break off what they save
                    self._Send(alive, signal.SIGTERM)
            code = code or value
        return code

    def _Send(self, workers: set[int], number: int) -> None:
        for worker in sorted(workers):
            self._workers[worker].send_signal(number)

    def _Await(self, worker: int, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        self._news.put((worker, code if code >= 0 else 128 - code))

    def _Label(self, worker: int, source: Any, target: Any) -> None:
        for line in source:
            self._Write(target, f'[{worker}] {line.decode(errors="replace").rstrip(_ENDS)}\n')

    def _Say(self, text: str) -> None:
        self._Write(sys.stderr, f'launch_local: {text}\n')

    def _Write(self, target: Any, text: str) -> None:
        with self._writing:  # lines of several workers stay whole
            try:
                target.write(text)
                target.flush()
            except (OSError, ValueError):
                pass  # nobody reads any more, or the terminal is closed; the workers go on


class _Guardian:
    """A process group that ends with the launcher; see the module's docstring."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ['/bin/sh', '-c', 'trap "" INT TERM HUP; read nothing; kill -9 0'],
            stdin=subprocess.PIPE,
            preexec_fn=os.setpgrp,
        )

    def Join(self) -> None:
        """Called in a new process: makes it one of the group, or fails if there is none."""
        os.setpgid(0, self._process.pid)

    def EndAll(self) -> None:
        """Kills the group. Its number cannot belong to another: the guardian is waited for here."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _Thread(target: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def _Names(workers: set[int]) -> str:
    return ', '.join(f'worker {worker}' for worker in sorted(workers))


if __name__ == '__main__':
    sys.exit(Main())
