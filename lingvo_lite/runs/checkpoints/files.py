"""The files of checkpoints: there whole or not at all.

A checkpoint of step 1000 in a folder is `ckpt-00001000.index` and `ckpt-00001000.data-*`. Files
are written into a temporary folder beside them, fsynced and renamed, the index last: what has an
index is whole, whenever the process or the machine stops. What is in them is the business of
`checkpoints`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from typing import NamedTuple, Optional

from lingvo_lite.runs import atomic

_INDEX = re.compile(r'ckpt-(\d{8,})\.index')
_DATA = re.compile(r'(.+)\.data-(\d{5})-of-(\d{5})')


class Checkpoint(NamedTuple):
    """One in a folder."""

    step: int
    prefix: str
    time: float  # when it was written, seconds since 1970


def PrefixOf(folder: str, step: int) -> str:
    """The checkpoint's name without endings: folder/ckpt-00001000."""
    return os.path.join(folder, f'ckpt-{step:08d}')


def List(folder: str) -> list[Checkpoint]:
    """The whole checkpoints in a folder by step, oldest first; [] if there is no folder."""
    found = []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    for name in names:
        match = _INDEX.fullmatch(name)
        if not match:
            continue
        prefix = os.path.join(folder, name[: -len('.index')])
        with contextlib.suppress(FileNotFoundError):  # deleted while this looks
            time = os.stat(f'{prefix}.index').st_mtime
            if _IsWhole(prefix, [os.path.join(folder, other) for other in names]):
                found.append(Checkpoint(int(match[1]), prefix, time))
    return sorted(found)


def Latest(folder: str) -> Optional[Checkpoint]:
    """The newest checkpoint in a folder; None if there is none."""
    return next(reversed(List(folder)), None)


@contextlib.contextmanager
def Staged(prefix: str) -> Iterator[str]:
    """A prefix to write to; on leaving, its files become those of `prefix`, the index last."""
    folder, name = os.path.split(os.path.abspath(prefix))
    staging = os.path.join(folder, f'{atomic.TEMPORARY}{name}-{os.getpid()}-{os.urandom(4).hex()}')
    os.mkdir(staging)
    try:
        yield os.path.join(staging, name)
        files = sorted(os.listdir(staging), key=lambda file: file.endswith('.index'))
        for file in files:
            atomic.FsyncFile(os.path.join(staging, file))
        Delete(prefix)
        for file in files:
            if file.endswith('.index'):
                atomic.FsyncFolder(folder)
            os.replace(os.path.join(staging, file), os.path.join(folder, file))
        atomic.FsyncFolder(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _FilesOf(prefix: str) -> list[str]:
    folder, name = os.path.split(prefix)
    files = []
    for other in os.listdir(folder or '.'):
        data = _DATA.fullmatch(other)
        if other == f'{name}.index' or (data and data[1] == name):
            files.append(os.path.join(folder, other))
    return sorted(files)


def _IsWhole(prefix: str, files: list[str]) -> bool:
    """Whether the index and as many data files as their names promise are there."""
    matches = [match for match in map(_DATA.fullmatch, files) if match and match[1] == prefix]
    counts = {int(match[3]) for match in matches}
    return f'{prefix}.index' in files and counts == {len(matches)}


def LinkOrCopy(prefix: str, folder: str) -> str:
    """Makes `folder` have the checkpoint too: by hard links, or copies where there are none.

    Returns:
      Its prefix in `folder`, which stays when the first one is deleted.

    Raises:
      FileNotFoundError: if it is, or meanwhile was, deleted. `folder` is as it was then.
    """
    files = _FilesOf(prefix)
    if not _IsWhole(prefix, files):
        raise FileNotFoundError(f'There is no checkpoint {prefix}.')
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, os.path.basename(prefix))
    with Staged(target) as staged:
        for file in files:
            copy = staged + file[len(prefix) :]
            try:
                os.link(file, copy)
            except FileNotFoundError:
                raise FileNotFoundError(f'Checkpoint {prefix} was deleted meanwhile.') from None
            except OSError:  # another file system, or one without hard links
                shutil.copy2(file, copy)
    return target


def Delete(prefix: str) -> None:
    """Removes a checkpoint, its index first: what is left after a crash is none any more."""
    if not os.path.isdir(os.path.dirname(prefix)):  # the folder was removed with all that is in it
        return
    for file in sorted(_FilesOf(prefix), key=lambda file: not file.endswith('.index')):
        with contextlib.suppress(FileNotFoundError):
            os.remove(file)


def WriteState(folder: str) -> None:
    """Writes the file `checkpoint`, by which TensorFlow's own tools find the checkpoints.

    Nothing here reads it: what counts are the checkpoints that are there.
    """
    names = [os.path.basename(checkpoint.prefix) for checkpoint in List(folder)]
    lines = [f'model_checkpoint_path: "{names[-1]}"\n'] if names else []
    lines += [f'all_model_checkpoint_paths: "{name}"\n' for name in names]
    atomic.Write(os.path.join(folder, 'checkpoint'), ''.join(lines))


def CleanUp(folder: str) -> None:
    """Removes what a killed writer left. Only for the job that owns the folder."""
    if not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        data = _DATA.fullmatch(name)
        if name.startswith(atomic.TEMPORARY) and os.path.isdir(path):
            shutil.rmtree(path)
        elif name.startswith(atomic.TEMPORARY):
            os.remove(path)
        elif data and not os.path.exists(os.path.join(folder, f'{data[1]}.index')):
            os.remove(path)


def SetAside(prefix: str) -> None:
    """Renames a damaged checkpoint to *.damaged, the index first."""
    for file in sorted(_FilesOf(prefix), key=lambda file: not file.endswith('.index')):
        os.replace(file, f'{file}.damaged')
