"""What can happen to a run, each as a function that makes it happen.

A fault takes a Victim whose jobs run and returns what it did, or None if the moment never came (a
job was over before). It leaves no job running that cannot go on; it raises processes.Failure if a
job did not answer as it has to.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from typing import Callable, NamedTuple, Optional

from lingvo_lite.jobs.faults import watchdog

from . import disk, processes, victims

_DAY_S = 86400.0


class Fault(NamedTuple):
    """A kind of fault.

    Attributes:
      name: for the command line.
      inject: (victim, disk) -> what happened, or None.
      weight: how often, compared with others.
      workers: 'one', 'many' or 'any': which trainers it is for.
      scorer: the job that must be there; '' for none.
    """

    name: str
    inject: Callable[[victims.Victim, disk.Disk], Optional[str]]
    weight: float
    workers: str = 'any'
    scorer: str = ''

    def Fits(self, victim: victims.Victim) -> bool:
        """Whether it can happen to a run as it stands."""
        if self.workers != 'any' and (victim.family.workers > 1) != (self.workers == 'many'):
            return False
        if self.scorer:
            return self.scorer in victim.family.scorers and not victim.IsDoneBy(self.scorer)
        return not victim.IsDoneBy('trainer')


def _KillAtStart(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    job = victim.draw.choice(victim.trainers)
    time.sleep(victim.draw.uniform(0.0, 4.0))
    return _Kill(victim, job, 'start')


def _KillAtStep(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    job = victim.draw.choice(victim.trainers)
    if not victim.Reach(victim.Steps, victim.trainers):
        return None
    time.sleep(victim.draw.uniform(0.0, 0.5))
    return _Kill(victim, job, 'step')


def _KillAtSave(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    job = victim.trainers[0]
    if not victim.Reach(victim.Steps, victim.trainers):
        return None
    time.sleep(victim.draw.uniform(0.0, 0.3))
    if not victim.Reach(victim.Saves, victim.trainers):
        return None
    time.sleep(victim.draw.uniform(0.0, 0.003))
    return _Kill(victim, job, 'step')


def _Kill(victim: victims.Victim, job: processes.Job, moment: str) -> Optional[str]:
    """kill -9; what the moment was is seen in what the job leaves behind."""
    if job.Code() is not None:
        return None
    stepped = victim.Steps()
    if not _Killed(victim, job):
        return None
    if stepped:
        moment = 'save' if victim.Saves() else 'step'
    for other in victim.trainers:  # the workers of a cluster that has lost one end by themselves
        victim.Gone(other, [watchdog.EXIT_CODE, -signal.SIGALRM, 0])
    name = job.name if victim.family.workers == 1 else f'worker {job.name[-1]}'
    return f'kill -9 {name}, {moment}'


def _Killed(victim: victims.Victim, job: processes.Job) -> bool:
    """kill -9; False if the job was just over."""
    job.Kill()
    victim.Gone(job, [-signal.SIGKILL, 0])
    return job.Code() != 0


def _KillScorer(name: str) -> Callable[[victims.Victim, disk.Disk], Optional[str]]:
    def Inject(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
        job = victim.jobs[name]
        if victim.draw.random() < 0.8 and not victim.Reach(lambda: victim.Scores(name), [job]):
            return None
        time.sleep(victim.draw.uniform(0.0, 0.3))
        if job.Code() is not None:
            return None
        return f'kill -9 {name}' if _Killed(victim, job) else None

    return Inject


def _TrainerAtWork(victim: victims.Victim) -> Optional[processes.Job]:
    """One of the workers, a while after the first step; None if it has ended."""
    job = victim.draw.choice(victim.trainers)
    if not victim.Reach(victim.Steps, victim.trainers):
        return None
    time.sleep(victim.draw.uniform(0.0, 0.3))
    return job if job.Code() is None else None


def _Terminate(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    job = _TrainerAtWork(victim)
    if job is None:
        return None
    job.Signal(signal.SIGTERM)
    chief = victim.trainers[0]
    ended = list(victim.trainers)
    for each in ended:
        victim.Gone(each, [143, 0])
    if os.path.exists(os.path.join(victim.train, 'FINISHED')):  # it was just over
        return None
    codes = {each.Code() for each in ended}
    if codes != {143}:
        raise processes.Failure(f'After SIGTERM the workers ended with {sorted(map(str, codes))}.')
    said = re.search(r'Stopped at step (\d+); everything is saved', chief.Log())
    if said is None or int(said[1]) not in victim.Whole():
        raise processes.Failure(f'After SIGTERM: {chief.LastLine()}')
    victim.asked.add(int(said[1]))
    return f'SIGTERM {"trainer" if len(ended) == 1 else f"worker {job.name[-1]}"}'


def _TerminateScorer(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    job = victim.jobs['evaler']
    if not victim.Reach(lambda: _IsAtWork(job), [job]):
        return None
    job.Signal(signal.SIGTERM)
    victim.Gone(job, [143, 0])
    return 'SIGTERM evaler' if job.Code() == 143 else None


def _StopWorker(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    job = _TrainerAtWork(victim)
    if job is None:
        return None
    job.Signal(signal.SIGSTOP)
    others = [each for each in victim.trainers if each is not job]
    try:
        for each in others:
            victim.Gone(each, [watchdog.EXIT_CODE])
            # TensorFlow's own heartbeat may notice before the watchdog.
            if not re.search('most recent call first|Another worker is gone', each.Log()):
                raise processes.Failure(f'{each.name} does not say why: {each.LastLine()}')
    finally:
        job.Kill()
    victim.Gone(job, [-signal.SIGKILL])
    return f'SIGSTOP worker {job.name[-1]}'


def _StopAndContinue(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    (job,) = victim.trainers
    if not victim.Reach(victim.Steps, [job]):
        return None
    job.Signal(signal.SIGSTOP)
    seconds = victim.watchdog_s * victim.draw.choice([0.1, 1.2])
    time.sleep(seconds)
    before = job.Log().count(' step ')
    job.Signal(signal.SIGCONT)
    victim.Reach(lambda: job.Log().count(' step ') > before, [job])
    if job.Code() not in (None, 0):
        raise processes.Failure(f'It did not survive {seconds:.0f} s of SIGSTOP: {job.LastLine()}')
    return 'SIGSTOP, SIGCONT trainer'


def _DiskFull(victim: victims.Victim, where: disk.Disk) -> Optional[str]:
    if not victim.Reach(victim.Steps, victim.trainers):
        return None
    time.sleep(victim.draw.uniform(0.0, 0.3))
    chief, *others = victim.trainers
    scorers = [job for job in victim.jobs.values() if job not in victim.trainers]
    where.Fill([job.pid for job in victim.jobs.values()], victim.draw)
    try:
        victim.Gone(chief, [1, 0])
        for job in others:
            victim.Gone(job, [1, 0, watchdog.EXIT_CODE])
        for job in scorers:  # they may get to the end of a pass, and fail, or not
            processes.WaitFor(lambda job=job: job.Code() is not None, [], 1.0)
            job.Kill()
            victim.Gone(job, [1, 0, -signal.SIGKILL])
    finally:
        where.Empty()
    if chief.Code() == 0:
        return None
    line = chief.LastLine()
    if 'No space left' not in line and 'File too large' not in line:
        raise processes.Failure(f'The disk was full, and the trainer says: {line}')
    return 'disk full'


def _RemoveLogDirectory(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    scorers = [victim.jobs[name] for name in victim.family.scorers if name in victim.jobs]
    if not victim.Reach(victim.Steps, victim.trainers):
        return None
    for job in scorers:  # one that is just starting would wait for a trainer to make a new one
        if not victim.Reach(lambda job=job: _IsAtWork(job), [job]):
            return None
    while os.path.exists(victim.path):
        shutil.rmtree(victim.path, ignore_errors=True)
    chief = victim.trainers[0]
    for job in [chief, *victim.jobs.values()]:
        victim.Gone(job, [0, 1, watchdog.EXIT_CODE])
        if job.Code() == 0:
            if chief.Code() != 0:
                raise processes.Failure(f'The log directory was removed; {job.name} ended with 0.')
        elif job is chief or job.name in victim.family.scorers:
            if 'was removed' not in job.LastLine():
                raise processes.Failure(f'The log directory was removed; {job.LastLine()}')
    if os.path.exists(victim.path):
        raise processes.Failure(f'The removed log directory came back: {os.listdir(victim.path)}')
    victim.BeginAnew()
    return None if chief.Code() == 0 else 'log directory removed'  # 0: it was just over


def _IsAtWork(scorer: processes.Job) -> bool:
    """Whether an evaler or decoder has begun with a checkpoint since it was started."""
    return ' Step ' in scorer.Log()


def _SetClockBack(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    """What is on the disk is from tomorrow, and the clock jumps back while the jobs run."""
    if not victim.Reach(victim.Steps, victim.trainers):
        return None
    for job in list(victim.jobs.values()):
        job.Kill()
        victim.jobs.pop(job.name)
    for folder, _, names in os.walk(victim.path):
        for name in names:
            path = os.path.join(folder, name)
            tomorrow = os.stat(path).st_mtime + _DAY_S
            os.utime(path, (tomorrow, tomorrow))
    after = victim.draw.uniform(0.5, 6.0)
    victim.Start(before=lambda: processes.SetClockBack(after, _DAY_S))
    victim.Reach(victim.Steps, victim.trainers)
    return 'clock set back'


RUNNING = (
    Fault('kill-start', _KillAtStart, 2.0),
    Fault('kill-step', _KillAtStep, 3.0),
    Fault('kill-save', _KillAtSave, 3.0),
    Fault('kill-evaler', _KillScorer('evaler'), 2.5, scorer='evaler'),
    Fault('kill-decoder', _KillScorer('decoder'), 2.5, scorer='decoder'),
    Fault('term', _Terminate, 1.5),
    Fault('term-evaler', _TerminateScorer, 0.7, scorer='evaler'),
    Fault('stop-worker', _StopWorker, 2.0, workers='many'),
    Fault('stop-continue', _StopAndContinue, 0.5, workers='one'),
    Fault('disk-full', _DiskFull, 1.5),
    Fault('remove', _RemoveLogDirectory, 0.5),
    Fault('clock', _SetClockBack, 0.7),
)


# Between the end of a trainer and its next start.


def _Truncate(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    return _Damage(victim, 'checkpoint truncated', _Cut)


def _Flip(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    return _Damage(victim, 'byte of a checkpoint flipped', _FlipByte)


def _Damage(
    victim: victims.Victim, what: str, change: Callable[[bytearray, random.Random], None]
) -> Optional[str]:
    """Damages the newest checkpoint in train/; its hard links stay as they are."""
    whole = victim.Whole()
    if len(whole) < 2:
        return None
    prefix = f'ckpt-{whole[-1]:08d}'
    ending = victim.draw.choice(['.index', '.data-00000-of-00001'])
    path = os.path.join(victim.train, prefix + ending)
    with open(path, 'rb') as file:
        content = bytearray(file.read())
    change(content, victim.draw)
    with open(f'{path}.new', 'wb') as file:
        file.write(content)
    os.replace(f'{path}.new', path)
    victim.damaged.add(whole[-1])
    return what


def _Cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def _FlipByte(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def _Mislead(victim: victims.Victim, _: disk.Disk) -> Optional[str]:
    path = os.path.join(victim.train, 'checkpoint')
    if not os.path.exists(path):
        return None
    with open(path, 'w', encoding='utf-8') as file:
        file.write('model_checkpoint_path: "ckpt-99999999"\n')
    return "file 'checkpoint' points to nothing"


BETWEEN = (
    Fault('truncate', _Truncate, 1.0),
    Fault('flip', _Flip, 1.5),
    Fault('mislead', _Mislead, 0.5),
)
