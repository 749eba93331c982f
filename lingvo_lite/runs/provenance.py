"""command.json: how the numbers in a folder came about. One entry for each start of the job."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Optional

import lingvo_lite
from lingvo_lite.runs import atomic

_PACKAGES = (
    'tensorflow',
    'keras',
    'tensorflow-io',
    'soundfile',
    'numpy',
    'sentencepiece',
    'sacrebleu',
)


def Record(path: str, argv: Sequence[str]) -> None:
    """Appends this start to the JSON list in `path`; each entry is what `Describe` returns."""
    atomic.WriteJson(path, [*Read(path), Describe(argv)])


def Read(path: str) -> list[dict[str, Any]]:
    """The starts so far, oldest first; [] if there is no such file or it cannot be read."""
    try:
        with open(path, encoding='utf-8') as file:
            starts = json.load(file)
    except (FileNotFoundError, ValueError):
        return []
    return starts if isinstance(starts, list) else []


def Describe(argv: Sequence[str]) -> dict[str, Any]:
    """Arguments, time, versions, commit of the source, and machine of this process."""
    return {
        'argv': list(argv),
        'time': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        'folder': os.getcwd(),
        'host': socket.gethostname(),
        'machine': f'{platform.platform()}, {os.cpu_count()} CPUs',
        'pid': os.getpid(),
        'python': platform.python_version(),
        'versions': {'lingvo_lite': lingvo_lite.__version__, **_Versions()},
        'git': _Git(os.path.dirname(os.path.abspath(lingvo_lite.__file__))),
    }


def _Versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _Git(folder: str) -> Optional[str]:
    """'<hash>' or '<hash> with changes' of the source; None where it is no git checkout."""

    def Run(*args: str) -> str:
        return subprocess.run(
            ['git', '-C', folder, *args],
            capture_output=True,
            text=True,
            timeout=5.0,
            check=True,
        ).stdout.strip()

    try:
        # An installed package can lie inside someone else's checkout: the file must be tracked.
        Run('ls-files', '--error-unmatch', '__init__.py')
        commit = Run('rev-parse', 'HEAD')
        changed = Run('status', '--porcelain', '--untracked-files=no')
    except (OSError, subprocess.SubprocessError):
        return None
    return f'{commit} with changes' if changed else commit
