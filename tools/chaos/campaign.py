"""Runs harmed one after the other, and the table of what became of them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Optional

from lingvo_lite.jobs import trainer  # noqa: F401  (before the first fork)
from lingvo_lite.jobs.scoring import scorer  # noqa: F401  (likewise)
from lingvo_lite.runs import tables

from . import checks, disk, experiments, faults, processes, victims

_KEEP_ALL = 1000
_KEEP_FEW = 3
_FAULTS_A_RUN = (6, 12)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
      faults: how many.
      seed: of choices and moments.
      families: names of `victims.FAMILIES`.
      only: names of faults.
    """

    faults: int
    seed: int
    families: Sequence[str]
    only: Sequence[str]


@dataclasses.dataclass
class Injected:
    """A fault that happened.

    Attributes:
      what: happened.
      family: to whom.
      lost: what the comparisons behind it found missing, doubled or different.
      is_recovered: whether the run was right again in the end.
    """

    what: str
    family: str
    lost: int = 0
    is_recovered: bool = False


class Table:
    """What happened, and what became of it."""

    def __init__(self) -> None:
        self.injected: list[Injected] = []
        self.failures: list[str] = []
        self.seconds = 0.0
        self.disk = ''

    def IsClean(self, wanted: int) -> bool:
        """Whether so many faults happened, each was recovered from, and nothing is lost."""
        return (
            len(self.injected) >= wanted
            and not self.failures
            and all(each.is_recovered and not each.lost for each in self.injected)
        )

    def Format(self) -> str:
        """For people."""
        rows = []
        for what in sorted({each.what for each in self.injected}):
            rows.append(self._Row(what, [each for each in self.injected if each.what == what]))
        rows.append(self._Row('all', self.injected))
        header = ('fault', 'injected', 'recovered', 'examples lost', 'families')
        lines = [tables.Format(header, rows)]
        lines += [f'FAILED {failure}' for failure in self.failures]
        lines.append(
            f'{self.seconds / 60:.1f} minutes; disk full by {self.disk}. Examples lost: records, '
            'lines and checkpoints that are missing, there twice or different from the '
            'undisturbed run.'
        )
        return '\n'.join(lines)

    def _Row(self, what: str, those: Sequence[Injected]) -> tuple[str, str, str, str, str]:
        families = ', '.join(sorted({each.family for each in those}))
        recovered = sum(each.is_recovered for each in those)
        lost = sum(each.lost for each in those)
        return what, str(len(those)), str(recovered), str(lost), families


def Run(plan: Plan, folder: Optional[str] = None) -> Table:
    """Does what the plan says; tells on stderr how it goes.

    Args:
      plan: what to do.
      folder: for the runs, which stay there; None for a temporary one, which stays if something
        failed.
    """
    begin = time.monotonic()
    root = folder or tempfile.mkdtemp(prefix='chaos-')
    where = disk.Disk(os.path.join(root, 'disk'))
    table = Table()
    table.disk = where.kind
    try:
        os.environ['LINGVO_LITE_DATA'] = os.path.join(root, 'data')
        os.environ['LINGVO_LITE_CACHE'] = os.path.join(root, 'cache')
        processes.InChild(lambda: experiments.WriteData(os.environ['LINGVO_LITE_DATA']))
        draw = random.Random(plan.seed)
        known = {name: _Undisturbed(name, root) for name in plan.families}
        number = 0
        while len(table.injected) < plan.faults and len(table.failures) < 10:
            name = plan.families[number % len(plan.families)]
            left = plan.faults - len(table.injected)
            _Disturb(plan, name, *known[name], where, draw, number, min(left, 12), table)
            number += 1
    finally:
        where.Close()
        table.seconds = time.monotonic() - begin
    if folder is None and not table.failures:
        shutil.rmtree(root, ignore_errors=True)
    return table


def _Undisturbed(name: str, root: str) -> tuple[checks.Expected, float]:
    """What it leaves, and the seconds that it takes."""
    path = os.path.join(root, 'undisturbed', name)
    family = victims.FAMILIES[name]
    run = victims.Victim(path, f'{path}.logs', family, _KEEP_ALL, random.Random(0))
    begin = time.monotonic()
    with contextlib.closing(run):
        run.Finish()
    seconds = time.monotonic() - begin
    _Tell(f'{name}: {seconds:.0f} s undisturbed')
    return checks.Expected(path), seconds


def _Disturb(
    plan: Plan,
    name: str,
    expected: checks.Expected,
    seconds: float,
    where: disk.Disk,
    draw: random.Random,
    number: int,
    most: int,
    table: Table,
) -> None:
    """One run, harmed until it is over, at most so many times."""
    path = os.path.join(where.folder, f'{number:03d}-{name}')
    keep = _KEEP_ALL if number % 2 == 0 else _KEEP_FEW
    logs = os.path.join(os.path.dirname(where.folder), 'logs', os.path.basename(path))
    run = victims.Victim(path, logs, victims.FAMILIES[name], keep, draw, seconds)
    here: list[Injected] = []
    at_most = min(most, draw.randint(*_FAULTS_A_RUN))
    failed = False
    with contextlib.closing(run):
        try:
            while len(here) < at_most and _Possible(plan, run):
                happened = _Harm(plan, run, where)
                here += [Injected(what, name) for what in happened]
                table.injected += here[len(here) - len(happened) :]
                if not run.trainers:
                    _Note(expected.Losses(path, run.damaged, run.asked), here)
            run.Finish()
            _Note(expected.LossesAtEnd(path, keep == _KEEP_ALL, run.asked), here)
        except processes.Failure as error:
            failed = True
            table.failures.append(f'{os.path.basename(path)}, after {_Last(here)}: {error}')
            _Tell(table.failures[-1])
    for each in here:
        each.is_recovered = not failed
    _Tell(
        f'{os.path.basename(path)}: {", ".join(each.what for each in here)}; '
        f'{len(table.injected)} of {plan.faults}'
    )
    if failed and os.path.exists(path):  # the disk goes; what failed is to be looked at
        kept = os.path.join(os.path.dirname(where.folder), 'failed', os.path.basename(path))
        shutil.copytree(path, kept)
    shutil.rmtree(path, ignore_errors=True)


def _Harm(plan: Plan, run: victims.Victim, where: disk.Disk) -> list[str]:
    """Starts what does not run, and lets one thing happen to it, or several."""
    possible = _Possible(plan, run)
    (fault,) = run.draw.choices(possible, [each.weight for each in possible])
    run.Start(cold=fault.name == 'kill-start')
    happened = [fault.inject(run, where)]
    run.Collect()
    if not run.trainers and not run.IsDoneBy('trainer'):
        for between in faults.BETWEEN:
            if between.name in plan.only and run.draw.random() < between.weight / 5:
                happened.append(between.inject(run, where))
    return [each for each in happened if each is not None]


def _Possible(plan: Plan, run: victims.Victim) -> list[faults.Fault]:
    """What can still happen to a run; without the trainer's end nothing happens to its files."""
    only = set(plan.only)
    if not only & {fault.name for fault in faults.RUNNING}:
        only.add('kill-step')
    return [fault for fault in faults.RUNNING if fault.name in only and fault.Fits(run)]


def _Note(losses: Sequence[checks.Loss], here: Sequence[Injected]) -> None:
    """Puts losses on the account of the last fault; raises processes.Failure if there are any."""
    if losses:
        if here:
            here[-1].lost += sum(loss.count for loss in losses)
        raise processes.Failure('; '.join(loss.text for loss in losses[:5]))


def _Last(here: Sequence[Injected]) -> str:
    return f'{len(here)} faults, the last {here[-1].what!r}' if here else 'no fault'


def _Tell(text: str) -> None:
    print(f'{time.strftime("%H:%M:%S")} {text}', file=sys.stderr, flush=True)
