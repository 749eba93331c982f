"""Trains on several workers of this machine, one of which is killed now and then.

    python -m lingvo_lite.tools.chaos.kill_workers --at=300,900 --model=mt.Multi30kEnDe --logdir=RUN

Whenever the run has reached the next step of --at, a worker is killed (kill -9; they take turns,
from the last one on). When the others have ended by themselves, all are started again. What the
workers write is in RUN.logs. The exit code is 0 if the training came to its end, and 1 if a worker
ended in any other way than it should. Without --at it is the run to compare with.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Optional

from lingvo_lite.jobs.faults import watchdog
from lingvo_lite.runs import metrics_log
from lingvo_lite.tools import launch_local

from . import processes

# What a lost worker takes to be noticed, or the others to end.
_PATIENCE_S = 300.0
_LOOK_S = 0.1


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The exit code; see above."""
    parser = argparse.ArgumentParser(
        prog='kill_workers',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('-n', type=int, default=2, metavar='N', help='number of workers')
    parser.add_argument('--at', type=_Steps, default=[], metavar='A,B', help='steps')
    parser.add_argument('--model', required=True, help='of the trainer')
    parser.add_argument('--logdir', required=True, help='of the trainer')
    parser.add_argument('flags', nargs='*', metavar='FLAG', help='of the trainer, behind `--`')
    flags = parser.parse_args(argv)
    logdir = flags.logdir.rstrip('/')
    arguments = [f'--model={flags.model}', f'--logdir={logdir}', *flags.flags]
    workers: list[processes.Job] = []
    try:
        for number, step in enumerate([*flags.at, None]):
            workers = _Start(number, flags.n, arguments, f'{logdir}.logs')
            if step is not None:
                _KillOne(workers, number, step, os.path.join(logdir, 'train', 'metrics.jsonl'))
        for job in workers:
            _End(job, float('inf'), 0)
    except processes.Failure as error:
        print(f'kill_workers: {error}', file=sys.stderr)
        return 1
    finally:
        for job in workers:
            job.Kill()
    _Tell('the training is over')
    return 0


def _Start(number: int, count: int, arguments: Sequence[str], logs: str) -> list[processes.Job]:
    os.makedirs(logs, exist_ok=True)
    workers = []
    for index, environment in enumerate(launch_local.Cluster(count)):
        log = os.path.join(logs, f'{number}-worker{index}.txt')
        flags = ['--strategy=multi_worker', *arguments]
        workers.append(processes.Job('trainer', flags, log, environment, cold=True))
    return workers


def _KillOne(workers: list[processes.Job], number: int, step: int, metrics: str) -> None:
    """Waits for the step, kills one worker, and waits until the others have ended."""
    while (reached := max(metrics_log.Steps(metrics), default=0)) < step:
        for job in workers:
            if job.Code() is not None:
                raise processes.Failure(f'before step {step}, a worker ended: {job.LastLine()}')
        time.sleep(_LOOK_S)
    index = (len(workers) - 1 - number) % len(workers)
    workers[index].Kill()
    begin = time.monotonic()
    for other in workers[:index] + workers[index + 1 :]:
        _End(other, _PATIENCE_S, watchdog.EXIT_CODE)
    seconds = time.monotonic() - begin
    _Tell(f'step {reached}: worker {index} killed, the others ended within {seconds:.1f} s')


def _End(job: processes.Job, seconds: float, wanted: int) -> None:
    code = job.Wait(seconds)
    if code != wanted:
        raise processes.Failure(f'a worker ended with {code}, not {wanted}: {job.LastLine()}')


def _Tell(text: str) -> None:
    print(f'{time.strftime("%H:%M:%S")} {text}', flush=True)


def _Steps(text: str) -> list[int]:
    return [int(step) for step in text.split(',')]


_Steps.__name__ = 'steps'


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    sys.exit(main())
