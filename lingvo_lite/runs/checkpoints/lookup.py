"""Which checkpoint does a user mean?"""

from __future__ import annotations

import os

from lingvo_lite.runs import rundir
from lingvo_lite.runs.checkpoints import best, files


def Resolve(path: str) -> str:
    """The prefix of one checkpoint.

    Args:
      path: a prefix (RUN/train/ckpt-00001000, with or without .index), a folder of checkpoints
        (the newest; in best/ the best), or a log directory (the newest in train/).

    Raises:
      FileNotFoundError: if there is no checkpoint.
    """
    prefix = path[: -len('.index')] if path.endswith('.index') else path
    if os.path.exists(f'{prefix}.index'):
        return prefix
    for folder in (path, rundir.RunDir(path).train):
        ranked = best.ListBest(folder)
        found = ranked[:1] or files.List(folder)[-1:]
        if found:
            return found[0].prefix
    raise FileNotFoundError(
        f'There is no checkpoint at {path}. Give a prefix such as RUN/train/ckpt-00001000, a '
        'folder with ckpt-*.index files, or a log directory.'
    )


def Last(folder: str, count: int) -> list[str]:
    """Prefixes of the last `count` checkpoints, oldest first.

    Raises:
      FileNotFoundError: if there are fewer.
    """
    found = [checkpoint.prefix for checkpoint in files.List(folder)]
    _CheckCount(folder, found, count)
    return found[-count:]


def Best(folder: str, count: int) -> list[str]:
    """Prefixes of the best `count` checkpoints in a best/ folder, best first.

    Raises:
      FileNotFoundError: if there are fewer.
    """
    found = [checkpoint.prefix for checkpoint in best.ListBest(folder)]
    _CheckCount(folder, found, count)
    return found[:count]


def _CheckCount(folder: str, found: list[str], count: int) -> None:
    if count < 1:
        raise ValueError(f'At least 1 checkpoint must be asked for, got {count}.')
    if len(found) < count:
        raise FileNotFoundError(
            f'{folder} has {len(found)} checkpoints, {count} are wanted. Ask for fewer, or keep '
            'more while training.'
        )
