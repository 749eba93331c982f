"""e: how long a trainer takes to its first step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Optional

import numpy as np

from . import results

FIRST_STEP = re.compile(r'\bstep 1(/|\s)')


def seconds_to_line(command: Sequence[str], pattern: re.Pattern[str]) -> float:
    """Runs a command to its end; seconds until it printed a line that the pattern is found in.

    Raises:
      RuntimeError: if it failed, or never printed such a line.
    """
    begin = time.perf_counter()
    found: Optional[float] = None
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if found is None and pattern.search(line):
                found = time.perf_counter() - begin
    if process.returncode or found is None:
        raise RuntimeError(
            f'{" ".join(command)} ended with {process.returncode} '
            f'{"before" if found is None else "after"} its first step:\n{"".join(lines[-20:])}'
        )
    return found


def trainer(logdir: str, model: str = 'mt.NumbersEnDe', settings: Sequence[str] = ()) -> list[str]:
    """The command of a trainer that does one step."""
    module = [sys.executable, '-m', 'lingvo_lite.cli', 'trainer']
    changes = [f'--set={setting}' for setting in ('task.train.max_steps=1', *settings)]
    return [*module, f'--model={model}', f'--logdir={logdir}', *changes]


def command_to_first_step(quick: bool) -> Iterator[results.Result]:
    """Seconds from the command to the first finished step of mt.NumbersEnDe, data prepared."""
    rounds = 1 if quick else 3
    own, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            logdir = os.path.join(folder, f'run_{number}')
            seconds = seconds_to_line(trainer(logdir), FIRST_STEP)
            importing = [sys.executable, '-c', 'import tensorflow; print("done")']
            imported = seconds_to_line(importing, re.compile('done'))
            if number:  # the first makes the data, and brings files into memory
                own.append(seconds)
                bare.append(imported)
    yield results.Result(
        'e',
        float(np.median(own)),
        min(own),
        max(own),
        at_most=8,
        unit='s',
        note='from the command to the first finished step; from the least to the most',
    )
    yield results.from_pairs('e over import', own, bare, note='the same / `import tensorflow`')
