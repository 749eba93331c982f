"""Writing TFRecord files with sidecars: whole or not at all, and gone on with after a restart."""

from __future__ import annotations

import glob
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from lingvo_lite.inputs.records import sidecars


class ShardWriter:
    """Writes one TFRecord file and its sidecar; both appear when the `with` ends well.

    with records.ShardWriter('dev.tfrecord', ('source', 'target')) as writer:
        writer.Write(payload, [12, 9])
    """

    def __init__(
        self,
        path: str,
        length_names: Sequence[str] = (),
        meta: Optional[Mapping[str, Any]] = None,
    ):
        """Opens a temporary file beside `path`.

        Args:
          path: of the TFRecord file.
          length_names: what the lengths of each record count.
          meta: JSON-able, kept in the sidecar.
        """
        self._path, self._names, self._meta = path, list(length_names), dict(meta or {})
        self._temporary = f'{path}.{os.getpid()}.tmp'
        self._offset = 0
        self._rows: list[tuple[int, int, int]] = []
        self._lengths: list[list[int]] = []

    def __enter__(self) -> ShardWriter:
        import tensorflow as tf

        self._writer = tf.io.TFRecordWriter(self._temporary)
        return self

    def Write(self, payload: bytes, lengths: Sequence[int] = ()) -> None:
        """Appends a record.

        Args:
          payload: its bytes.
          lengths: of the example, one for each of length_names.

        Raises:
          ValueError: if the number of lengths is another.
        """
        if len(lengths) != len(self._names):
            raise ValueError(f'lengths for {self._names} are wanted, got {list(lengths)}.')
        self._writer.write(payload)
        self._rows.append((self._offset, len(payload), zlib.crc32(payload)))
        self._lengths.append([int(length) for length in lengths])
        self._offset += sidecars.HEAD + len(payload) + sidecars.TAIL

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._writer.close()
        if kind is not None:
            os.unlink(self._temporary)
            return
        with open(self._temporary, 'rb') as file:
            os.fsync(file.fileno())
        # The sidecar comes last: where it stands, the data file is whole.
        if os.path.exists(sidecars.SidecarPath(self._path)):
            os.unlink(sidecars.SidecarPath(self._path))
        os.replace(self._temporary, self._path)
        sidecars.SaveSidecar(
            self._path, self._rows, self._lengths, self._names, self._meta, self._offset
        )


def RemoveLeftovers(folder: str) -> None:
    """Removes what a killed writer of shards or sidecars left in a folder of its own."""
    for name in os.listdir(folder):
        if '.tfrecord.' in name and name.endswith('.tmp'):
            os.unlink(os.path.join(folder, name))


def WriteShards(
    records: Iterable[tuple[bytes, Sequence[int]]],
    prefix: str,
    num_records: int,
    num_shards: int,
    length_names: Sequence[str] = (),
    meta: Optional[Mapping[str, Any]] = None,
) -> list[str]:
    """Writes `prefix-00000-of-00008.tfrecord` and so on, each with its sidecar.

    Records stay in order: shard 0 holds the first ones. Can be restarted: a shard that stands
    there whole, with the same number of records and the same meta, is kept; so `meta` should say
    what the records were made from.

    Args:
      records: (payload, lengths), exactly num_records of them.
      prefix: path without number and ending; its folder is made.
      num_records: how many come.
      num_shards: number of files.
      length_names: what the lengths count.
      meta: JSON-able, kept in each sidecar.

    Returns:
      The paths of the shards.

    Raises:
      ValueError: if there are more or fewer records than num_records, or fewer than shards.
    """
    if not 1 <= num_shards <= num_records:
        raise ValueError(f'{num_records:,} records cannot fill {num_shards:,} shards.')
    os.makedirs(os.path.dirname(os.path.abspath(prefix)), exist_ok=True)
    stream = iter(records)
    paths = []
    for shard in range(num_shards):
        path = f'{prefix}-{shard:05d}-of-{num_shards:05d}.tfrecord'
        count = num_records * (shard + 1) // num_shards - num_records * shard // num_shards
        _WriteOne(stream, path, count, length_names, {**(meta or {}), 'num_records': num_records})
        paths.append(path)
    if next(stream, None) is not None:
        raise ValueError(f'{prefix}: more records came than num_records={num_records:,}.')
    return paths


def RemoveOtherShards(prefix: str, num_shards: int) -> None:
    """Removes shards of `prefix` that `WriteShards` once made in another number.

    They would be read along with the present ones.
    """
    for path in glob.glob(f'{glob.escape(prefix)}-*.tfrecord'):
        found = sidecars.SHARD_NAME.fullmatch(path)
        if found and found[1] == prefix and int(found[2]) != num_shards:
            for each in (path, sidecars.SidecarPath(path)):
                if os.path.exists(each):
                    os.unlink(each)


def _WriteOne(
    stream: Any, path: str, count: int, length_names: Sequence[str], meta: Mapping[str, Any]
) -> None:
    """Takes `count` records from the stream and writes them, unless they stand there already."""

    def _Next(number: int) -> tuple[bytes, Sequence[int]]:
        record = next(stream, None)
        if record is None:
            raise ValueError(f'{path}: records end after {number:,} of the {count:,} of this file.')
        return record

    if _IsWhole(path, count, length_names, meta):
        for number in range(count):
            _Next(number)
        return
    with ShardWriter(path, length_names, meta) as writer:
        for number in range(count):
            writer.Write(*_Next(number))


def _IsWhole(path: str, count: int, length_names: Sequence[str], meta: Mapping[str, Any]) -> bool:
    try:
        car = sidecars.Sidecar(path)
    except (OSError, ValueError):
        return False
    same = car.head['meta'] == json.loads(json.dumps(dict(meta)))
    return same and len(car.offsets) == count and car.head['length_names'] == list(length_names)
