"""What is in a checkpoint, by path: standard TensorFlow files with plain names.

Names: a variable's path; `<path>/.slot/<slot>`, `<path>/.ema`, `<path>/.state/<name>` for what
belongs to a variable; `.step`, `.updates`, `.input_state` and the like for the run. So a *weight*
is a name none of whose parts starts with a dot.

What has been damaged since it was written (cut, a flipped byte) is found by TensorFlow's checksums
while it is read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import numpy as np
import tensorflow as tf

from lingvo_lite import paths
from lingvo_lite.runs import tables
from lingvo_lite.runs.checkpoints import files

_log = logging.getLogger(__name__)
_Result = TypeVar('_Result')

_CHUNK_BYTES = 64 << 20
# What says nothing about the file: it may be read another time, or by somebody else.
_NOT_OF_THE_FILE = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.UnavailableError,
)


class CorruptError(RuntimeError):
    """A checkpoint that is there but is damaged."""

    def __init__(self, prefix: str, reason: str):
        super().__init__(f'Checkpoint {prefix} is damaged: {reason}.')
        self.prefix = prefix
        self.reason = reason


class MismatchError(ValueError):
    """A checkpoint of another model."""


class Entry(NamedTuple):
    """What a checkpoint holds under one name."""

    shape: tuple[int, ...]
    dtype: tf.DType


# Writing.


def Snapshot(values: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Copies on the host that no later training step changes.

    Args:
      values: {name: variable, tensor, array, scalar or bytes}. A variable of a strategy gives its
        value in cross-replica context.

    Returns:
      {name: tensor on the CPU}: one copy of the values, which `Write` needs no other copy of.
    """
    with tf.device('CPU:0'):
        return {name: _OnHost(value) for name, value in values.items()}


def Write(prefix: str, snapshot: Mapping[str, tf.Tensor]) -> None:
    """Writes a snapshot as the checkpoint `prefix`, replacing one of that name.

    Raises:
      OSError or tf.errors.OpError: if it cannot be written; nothing is left behind then.
    """
    if not snapshot:
        raise ValueError(f'Checkpoint {prefix} would be empty.')
    names = sorted(snapshot)
    with files.Staged(prefix) as staged, tf.device('CPU:0'):
        tf.raw_ops.SaveV2(
            prefix=staged,
            tensor_names=names,
            shape_and_slices=[''] * len(names),
            tensors=[snapshot[name] for name in names],
        )


def Save(prefix: str, values: Mapping[str, Any]) -> None:
    """`Write` of a `Snapshot`. The jobs save through `saver.AsyncSaver`."""
    Write(prefix, Snapshot(values))


def Contents(prefix: str) -> dict[str, Entry]:
    """{name: (shape, dtype)} of a checkpoint.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      CorruptError: if its index cannot be read.
    """
    with _Reading(prefix) as path:
        reader = tf.train.load_checkpoint(path)
        dtypes = reader.get_variable_to_dtype_map()
        shapes = reader.get_variable_to_shape_map()
        return {name: Entry(tuple(shapes[name]), dtypes[name]) for name in sorted(shapes)}


def IsWeight(name: str) -> bool:
    """Whether a name in a checkpoint is that of a variable of the model itself."""
    return not any(part.startswith('.') for part in name.split('/'))


def EmaOf(path: str) -> str:
    """The name of the moving average of the variable at `path`."""
    return f'{path}/.ema'


def WithoutEma(name: str) -> str:
    """The inverse of `EmaOf`; any other name as it is."""
    return name[: -len('/.ema')] if name.endswith('/.ema') else name


# Reading.


def Restore(prefix: str, names: Optional[Iterable[str]] = None) -> dict[str, Any]:
    """Reads arrays from a checkpoint.

    Args:
      prefix: its path, e.g. RUN/train/ckpt-00001000.
      names: what to read; everything, if None.

    Returns:
      {name: NumPy array, or bytes for a scalar string}.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      KeyError: if a name is not in it.
      CorruptError: if it cannot be read.
    """
    contents = Contents(prefix)
    wanted = list(contents) if names is None else list(names)
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise KeyError(f'Checkpoint {prefix} has no {", ".join(missing)}.')
    chunks = ReadEach(prefix, wanted, contents)
    return {name: tensor.numpy() for name, tensor in chunks}


def RestoreInto(prefix: str, variables: Mapping[str, tf.Variable]) -> None:
    """Assigns what a checkpoint holds, all of it strictly as wanted.

    Everything in `variables` must be there with its shape and dtype, and the checkpoint must hold
    no weight that is not wanted. Nothing is assigned unless all fits.

    Args:
      prefix: the checkpoint.
      variables: {name in the checkpoint: variable to assign}. To use moving averages, give the
        variable of `path` under the name EmaOf(path).

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      MismatchError: with a table, if it does not fit.
      CorruptError: if it cannot be read. Some variables may have been assigned by then.
    """
    contents = Contents(prefix)
    _CheckFit(prefix, variables, contents)
    for name, tensor in ReadEach(prefix, list(variables), contents):
        variables[name].assign(tensor)


def RestoreNewest(
    folder: str, restore: Callable[[str], _Result], set_aside: bool = False
) -> Optional[tuple[files.Checkpoint, _Result]]:
    """Restores from the newest checkpoint that can be read.

    Args:
      folder: where the checkpoints are.
      restore: called with a prefix, newest first, until one raises no CorruptError.
      set_aside: rename damaged checkpoints so that they are not listed again. Only for the job
        that owns the folder.

    Returns:
      (the checkpoint, what `restore` returned); None if the folder has no checkpoint at all.

    Raises:
      CorruptError: if there are checkpoints but none can be read.
    """
    damaged: list[CorruptError] = []
    for checkpoint in reversed(files.List(folder)):
        try:
            result = restore(checkpoint.prefix)
        except CorruptError as error:
            _log.warning('%s Trying the one before it.', error)
            damaged.append(error)
            continue
        except FileNotFoundError:  # deleted since it was listed
            continue
        if set_aside:
            for bad in damaged:
                files.SetAside(bad.prefix)
        if damaged:
            _log.warning(
                'Using checkpoint %s instead of %s, which is damaged.',
                *(checkpoint.prefix, os.path.basename(damaged[0].prefix)),
            )
        return checkpoint, result
    if damaged:
        raise CorruptError(
            damaged[0].prefix,
            f'{damaged[0].reason}; none of the {len(damaged)} checkpoints in {folder} can be read. '
            'Remove them to start again',
        )
    return None


def ReadEach(
    prefix: str, names: Sequence[str], contents: Mapping[str, Entry]
) -> Iterator[tuple[str, tf.Tensor]]:
    """Yields (name, value on the CPU), reading some at a time: memory holds no second model.

    Args:
      prefix: the checkpoint.
      names: what to read; all of them are in it.
      contents: its `Contents`.

    Raises:
      CorruptError: if it cannot be read.
    """
    chunk: list[str] = []
    size = 0
    for i, name in enumerate(names):
        chunk.append(name)
        size += contents[name].dtype.size * int(np.prod(contents[name].shape, dtype=np.int64))
        if size < _CHUNK_BYTES and i < len(names) - 1:
            continue
        with _Reading(prefix) as path, tf.device('CPU:0'):
            tensors = tf.raw_ops.RestoreV2(
                prefix=path,
                tensor_names=chunk,
                shape_and_slices=[''] * len(chunk),
                dtypes=[contents[name].dtype for name in chunk],
            )
        yield from zip(chunk, tensors)
        chunk, size = [], 0
        del tensors


def Verify(prefix: str) -> None:
    """Reads all of a checkpoint, for its checksums.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      CorruptError: if any of it cannot be read.
    """
    contents = Contents(prefix)
    for _ in ReadEach(prefix, list(contents), contents):
        pass


def ShowEntries(wanted: Optional[Entry], found: Optional[Entry]) -> tuple[str, str]:
    """Both as texts for a table: shapes, with the dtypes if these differ; '-' for None."""
    with_dtype = bool(wanted and found and wanted.dtype != found.dtype)

    def Show(entry: Optional[Entry]) -> str:
        if entry is None:
            return '-'
        return f'{list(entry.shape)}' + (f' {entry.dtype.name}' if with_dtype else '')

    return Show(wanted), Show(found)


# Inside.


def _OnHost(value: Any) -> tf.Tensor:
    if isinstance(value, tf.Variable):
        # read_value alone shares the variable's memory on a CPU.
        return tf.raw_ops.DeepCopy(x=value.read_value())
    if isinstance(value, tf.Tensor):
        return tf.identity(value)
    return tf.constant(value.copy() if isinstance(value, np.ndarray) else value)


@contextlib.contextmanager
def _Reading(prefix: str) -> Iterator[str]:
    """Turns what TensorFlow raises on a bad file into the errors of this module.

    Yields the name by which TensorFlow finds it.
    """
    if not os.path.exists(f'{prefix}.index'):
        raise FileNotFoundError(f'There is no checkpoint {prefix}.')
    try:
        with paths.Literal(prefix) as path:
            yield path
    except (tf.errors.OpError, RuntimeError, IndexError) as error:
        if isinstance(error, CorruptError):
            raise
        if not os.path.exists(f'{prefix}.index'):
            raise FileNotFoundError(f'Checkpoint {prefix} was deleted meanwhile.') from None
        text = getattr(error, 'message', None) or str(error)
        text = re.sub(r'^\{\{.*?\}\}\s*|\s*\[Op:\w+\].*$', '', text, flags=re.S)
        if isinstance(error, _NOT_OF_THE_FILE):
            raise OSError(f'Checkpoint {prefix} cannot be read: {text.rstrip(".")}.') from None
        raise CorruptError(prefix, text.rstrip('.')) from None


def _CheckFit(
    prefix: str, variables: Mapping[str, tf.Variable], contents: Mapping[str, Entry]
) -> None:
    rows = []
    for name, variable in sorted(variables.items()):
        wanted = Entry(tuple(variable.shape.as_list()), tf.as_dtype(variable.dtype))
        found = contents.get(name)
        if found != wanted:
            rows.append((name, *ShowEntries(wanted, found)))
    known = {WithoutEma(name) for name in variables}
    for name in sorted(set(contents) - known):
        if IsWeight(name):
            rows.append((name, *ShowEntries(None, contents[name])))
    if rows:
        total = len({*variables, *(row[0] for row in rows)})
        verb = 'does' if len(rows) == 1 else 'do'
        raise MismatchError(
            f'{tables.Format(("variable", "wanted shape", "found shape"), rows)}\n'
            f'{len(rows)} of {total} variables {verb} not match {prefix}. '
            'To start from part of a checkpoint, use task.train.init_from.'
        )
