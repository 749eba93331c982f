"""Is anything lost? A disturbed run against the same run undisturbed, file by file.

What is compared: the bytes of checkpoints (variables, slots, averages, the position in the data);
every line of every metrics.jsonl, times and speeds left out; every record of decoded-*.jsonl; what
best/ names. Everything is read with plain Python.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import json
import math
import os
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

_TIMED = ('seconds', 'per_second', 'input_wait')
_CHECKPOINT = re.compile(r'ckpt-(\d+)\.(index|data-\d+-of-\d+)')
_DECODED = re.compile(r'decoded-(\d+)\.jsonl')


class Loss(NamedTuple):
    """Something that is missing, there twice, or different.

    Attributes:
      count: of examples, lines or files.
      text: what, and where.
    """

    count: int
    text: str


class Expected:
    """What an undisturbed run left."""

    def __init__(self, run: str):
        """Reads it: a finished run that kept and scored all its checkpoints."""
        self.checkpoints = _Checkpoints(run)
        self.last_step = max(self.checkpoints)
        self.lines = {folder: _ByStep(_Lines(run, folder)) for folder in _Folders(run)}
        self.decoded = {folder: _Decoded(run, folder) for folder in _Folders(run)}
        self.best = _Best(run)

    def Losses(
        self, run: str, damaged: Collection[int] = (), asked: Collection[int] = ()
    ) -> list[Loss]:
        """What is wrong in a run that may be at work, or have been killed at any moment.

        Args:
          run: its log directory.
          damaged: steps whose checkpoints were damaged on purpose.
          asked: steps at which the trainer saved because it was asked to stop. Such a checkpoint
            has none to be compared with; the line of metrics is in two parts, which must make the
            whole.
        """
        return list(self._Wrong(run, damaged, asked))

    def LossesAtEnd(self, run: str, kept_all: bool, asked: Collection[int] = ()) -> list[Loss]:
        """What is wrong or missing in a run that is over.

        Args:
          run: its log directory.
          kept_all: whether it kept all checkpoints, so that each must have been scored.
          asked: see `Losses`.
        """
        found = list(self._Wrong(run, (), asked))
        if not os.path.exists(os.path.join(run, 'train', 'FINISHED')):
            found.append(Loss(1, 'train/FINISHED is missing'))
        there = set(_Checkpoints(run))
        wanted = set(self.checkpoints) if kept_all else {self.last_step}
        found += _Missing(wanted - there, 'train: the checkpoint of step')
        for folder, lines in self.lines.items():
            steps = set(_ByStep(_Lines(run, folder)))
            wanted = set(lines) if kept_all or folder == 'train' else there
            found += _Missing(wanted - steps, f'{folder}/metrics.jsonl: the line of step')
            if self.decoded[folder]:
                known = set(_Decoded(run, folder))
                found += _Missing(steps - known, f'{folder}: the records of step')
        if kept_all and not asked and _Best(run) != self.best:
            found.append(Loss(1, f'best/ is {_Best(run)}, not {self.best}'))
        left = glob.glob(os.path.join(glob.escape(run), '**', '.tmp-*'), recursive=True)
        found += [Loss(1, f'{path} was left behind') for path in left]
        return found

    def _Wrong(self, run: str, damaged: Collection[int], asked: Collection[int]) -> Iterator[Loss]:
        for step, files in _Checkpoints(run).items():
            if step in damaged or (step in asked and step not in self.checkpoints):
                continue
            if files != self.checkpoints.get(step):
                yield Loss(1, f'train: the checkpoint of step {step} differs')
        for folder, wanted in self.lines.items():
            lines = _Lines(run, folder)
            for step, count in collections.Counter(line['step'] for line in lines).items():
                if count > 1:
                    yield Loss(count - 1, f'{folder}/metrics.jsonl: step {step}, {count} times')
            if folder == 'train':
                yield from _WrongSteps(lines, wanted, asked)
                continue
            extra = set(asked) - set(wanted)
            for line in lines:
                if line['step'] not in extra and line != wanted.get(line['step']):
                    yield Loss(1, f'{folder}/metrics.jsonl: step {line["step"]} differs: {line}')
            committed = set(_ByStep(lines))
            for step, records in _Decoded(run, folder).items():
                if step in committed and step not in extra:  # others may be written once more
                    yield from _WrongRecords(folder, step, records, self.decoded[folder].get(step))


def _WrongSteps(
    lines: list[dict[str, Any]], wanted: dict[int, dict[str, Any]], asked: Collection[int]
) -> Iterator[Loss]:
    """The trainer's lines; those that end where it was asked to stop are parts of the next."""
    parts: list[dict[str, Any]] = []
    begin = 0
    for line in lines:
        step = line['step']
        if step <= begin:
            yield Loss(1, f'train/metrics.jsonl: step {step} stands behind step {begin}')
        parts.append({**line, 'steps': step - begin})
        begin = step
        if step in asked and step not in wanted:
            continue
        known = wanted.get(step)
        if known is None or not (_Equal(parts, known) if len(parts) > 1 else line == known):
            yield Loss(1, f'train/metrics.jsonl: step {step} differs: {line}')
        parts = []


def _Equal(parts: list[dict[str, Any]], whole: dict[str, Any]) -> bool:
    """Whether what is a mean over steps is that of the parts, and the rest that of the last."""
    steps = sum(part['steps'] for part in parts)
    for name in ('loss', 'grad_norm'):
        mean = sum(part['steps'] * part[name] for part in parts) / steps
        if not math.isclose(mean, whole[name], rel_tol=1e-6):
            return False
    return all(parts[-1][name] == whole[name] for name in ('updates', 'skipped', 'epoch'))


def _WrongRecords(folder: str, step: int, found: list[Any], wanted: Any) -> Iterator[Loss]:
    where = f'{folder}/decoded-{step:08d}.jsonl'
    if wanted is None:
        yield Loss(len(found), f'{where}: no such step')
        return
    mine, theirs = ({each['id']: each for each in records} for records in (found, wanted))
    if len(found) > len(mine):
        yield Loss(len(found) - len(mine), f'{where}: examples that are there twice')
    if mine.keys() != theirs.keys():
        yield Loss(len(mine.keys() ^ theirs.keys()), f'{where}: examples are missing')
    different = [name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]]
    if different:
        yield Loss(len(different), f'{where}: other records of examples {sorted(different)[:5]}')


def _Missing(steps: Collection[int], what: str) -> list[Loss]:
    return [Loss(1, f'{what} {step} is missing') for step in sorted(steps)]


def _Folders(run: str) -> list[str]:
    paths = glob.glob(os.path.join(glob.escape(run), '*', 'metrics.jsonl'))
    return sorted(os.path.basename(os.path.dirname(path)) for path in paths)


def _Checkpoints(run: str) -> dict[int, dict[str, bytes]]:
    """{step: {ending: content}} of whole checkpoints."""
    found: dict[int, dict[str, bytes]] = collections.defaultdict(dict)
    for name in _Names(os.path.join(run, 'train')):
        match = _CHECKPOINT.fullmatch(name)
        if match:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                with open(os.path.join(run, 'train', name), 'rb') as file:
                    found[int(match[1])][match[2]] = file.read()
    return {step: files for step, files in sorted(found.items()) if 'index' in files}


def _Lines(run: str, folder: str) -> list[dict[str, Any]]:
    """Without what the clock decides; a torn last line does not count."""
    path = os.path.join(run, folder, 'metrics.jsonl')
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as file:
        texts = file.read().split('\n')[:-1]
    return [
        {key: value for key, value in json.loads(text).items() if not _IsTimed(key)}
        for text in texts
    ]


def _IsTimed(key: str) -> bool:
    return any(part in key for part in _TIMED)


def _ByStep(lines: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {line['step']: line for line in lines}


def _Decoded(run: str, folder: str) -> dict[int, list[Any]]:
    """{step: records}."""
    found = {}
    for name in _Names(os.path.join(run, folder)):
        match = _DECODED.fullmatch(name)
        if match:
            with open(os.path.join(run, folder, name), encoding='utf-8') as file:
                found[int(match[1])] = [json.loads(line) for line in file]
    return found


def _Best(run: str) -> Any:
    """What score.json says, and the checkpoints that are there."""
    path = os.path.join(run, 'best', 'score.json')
    if not os.path.exists(path):
        return None
    with open(path, encoding='utf-8') as file:
        score = json.load(file)
    names = [name for name in _Names(os.path.join(run, 'best')) if name.endswith('.index')]
    return score, sorted(names)


def _Names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []
