"""Reading the records of TFRecord files by index."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lingvo_lite.inputs import source
from lingvo_lite.inputs.records import sidecars


class RecordSource(source.Source):
    """The records of TFRecord files as one sequence of bytes, in the order of the paths.

    Attributes:
      length_names: what the columns of `lengths` count, for instance ('source', 'target').
      lengths: [records, columns] int32, or [records, 0] where the sidecar holds none.
      meta: JSON-able, what the writer put into the sidecars; equal in all of them.
    """

    def __init__(self, paths: Sequence[str]):
        """Reads the sidecars and compares them with the files.

        Raises:
          FileNotFoundError: if a file, its sidecar or a shard beside it is missing.
          ValueError: if a file is empty, cut short, or not the one that its sidecar describes, or
            sidecars do not belong together.
        """
        if not paths:
            raise ValueError('no TFRecord file was given.')
        cars = [sidecars.Sidecar(path) for path in paths]
        _CheckShards(paths)
        for path, car in zip(paths, cars):
            for what in ('length_names', 'meta'):
                if car.head[what] != cars[0].head[what]:
                    raise ValueError(
                        f'{path} does not belong to {paths[0]}: {what} in their sidecars are '
                        f'{car.head[what]!r} and {cars[0].head[what]!r}. Prepare them together.'
                    )
        self.name = paths[0] if len(paths) == 1 else f'{paths[0]} (and {len(paths) - 1} more)'
        self._paths, self._cars = list(paths), cars
        self._first = np.cumsum([0] + [len(car.offsets) for car in cars])
        self._files = [os.open(path, os.O_RDONLY) for path in paths]
        self.length_names: tuple[str, ...] = tuple(cars[0].head['length_names'])
        self.lengths = np.concatenate([car.lengths for car in cars])
        self.meta: dict[str, Any] = cars[0].head['meta']

    def __del__(self) -> None:
        for file in getattr(self, '_files', ()):
            os.close(file)

    def __len__(self) -> int:
        return int(self._first[-1])

    def Get(self, index: int) -> bytes:
        """The payload of record `index`.

        Raises:
          BadRecordError: if its bytes are not those that the sidecar describes.
        """
        shard, record = self._Find(index)
        car = self._cars[shard]
        size = int(car.sizes[record])
        offset = int(car.offsets[record])
        data = source.ReadAt(self._files[shard], sidecars.HEAD + size, offset, self.Where, index)
        payload = data[sidecars.HEAD :]
        if struct.unpack('<Q', data[:8])[0] != size or zlib.crc32(payload) != car.checksums[record]:
            raise source.BadRecordError(f'{self.Where(index)}: CRC does not match.')
        return payload

    def Where(self, index: int) -> str:
        """File, record and byte."""
        shard, record = self._Find(index)
        offset = int(self._cars[shard].offsets[record])
        return f'{self._paths[shard]}, record {record:,} (byte {offset:,})'

    def Fingerprint(self) -> str:
        """A hash of the sidecars' sizes and checksums; reads no record."""
        digest = hashlib.blake2b(digest_size=12)
        for car in self._cars:
            digest.update(car.sizes.tobytes() + car.checksums.tobytes())
        return digest.hexdigest()

    def _Find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f'{self.name} has {len(self):,} records, asked for {index:,}.')
        shard = int(np.searchsorted(self._first, index, side='right')) - 1
        return shard, index - int(self._first[shard])


def _CheckShards(paths: Sequence[str]) -> None:
    """A pattern matches what is there; a shard that was not copied must not be left out for it.

    Raises:
      FileNotFoundError: if a shard is missing on the disk. A pattern for some of them is fine.
    """
    matches = (sidecars.SHARD_NAME.fullmatch(path) for path in paths)
    for prefix, count in sorted({match.groups() for match in matches if match}):
        for shard in range(int(count)):
            path = f'{prefix}-{shard:05d}-of-{count}.tfrecord'
            if not os.path.exists(path):
                raise FileNotFoundError(f'{path} is missing, one of {int(count)} shards.')
