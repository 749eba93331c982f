"""TFRecord files with a sidecar that makes them readable by index.

Beside `train-00000-of-00032.tfrecord` stands `train-00000-of-00032.tfrecord.index.npz`: offsets,
sizes in bytes, checksums and example lengths of all records, and a JSON header. It is plain arrays
and JSON, no pickle. Prepare tools write both with `WriteShards`; `WriteSidecar` indexes a file that
came from elsewhere. The data file is a standard one, which TensorFlow's own reader takes too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from lingvo_lite.inputs import cache, data_files, source

_VERSION = 1
HEAD, TAIL = 12, 4  # bytes around each payload: length and its CRC, CRC of the payload
# Of any length a record can tell: FLAC has 65,535 samples of silence in 14 bytes. What claims more
# would make batches that no memory holds.
_MOST_A_BYTE = 8192

# As `record_writer.WriteShards` names them.
SHARD_NAME = re.compile(r'(.*)-\d{5}-of-(\d{5})\.tfrecord', re.DOTALL)


def SidecarPath(path: str) -> str:
    """Where the sidecar of a TFRecord file stands."""
    return path + data_files.SIDECAR


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
        cars = [Sidecar(path) for path in paths]
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
        data = source.ReadAt(self._files[shard], HEAD + size, offset, self.Where, index)
        payload = data[HEAD:]
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


class Sidecar:
    """What one sidecar says, compared with the size of its file."""

    def __init__(self, path: str):
        name = SidecarPath(path)
        if not os.path.exists(path):
            raise FileNotFoundError(f'No TFRecord file {path}.')
        size = os.path.getsize(path)
        if not size:
            raise ValueError(f'{path} is empty: it holds no record. Make it again.')
        if not os.path.exists(name):
            raise FileNotFoundError(
                f'{path} has no sidecar {os.path.basename(name)}, so its records cannot be found '
                'by number. lingvo_lite.inputs.records.WriteSidecar(path) makes one.'
            )
        try:
            with np.load(name, allow_pickle=False) as arrays:
                self.head = json.loads(arrays['head'].tobytes().decode('utf-8'))
                self.offsets, self.sizes = arrays['offsets'], arrays['sizes']
                self.checksums, self.lengths = arrays['checksums'], arrays['lengths']
            if self.head['version'] == _VERSION:
                self._Check()
        except Exception as error:  # NumPy and zipfile know many ways to fail on damaged bytes
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise ValueError(
                f'{name} is damaged ({reason}). Make it and its data file again.'
            ) from None
        if self.head['version'] != _VERSION:
            raise ValueError(
                f'{name} has version {self.head["version"]}, wanted {_VERSION}. '
                'Prepare the data again.'
            )
        if size < self.head['file_size']:
            ends = self.offsets + HEAD + self.sizes + TAIL
            whole = int(np.sum(ends <= size))
            raise ValueError(
                f'{path} is cut short: {size:,} bytes, where its sidecar says '
                f'{self.head["file_size"]:,}. It ends within record {whole:,} of '
                f'{len(self.offsets):,}. Copy it again, or make it again.'
            )
        if size > self.head['file_size']:
            raise ValueError(
                f'{path} has changed since its sidecar was written: {size:,} bytes, where the '
                f'sidecar says {self.head["file_size"]:,}. Make both again.'
            )

    def _Check(self) -> None:
        """Raises an error if the parts do not fit each other."""
        count, names = len(self.offsets), self.head['length_names']
        arrays = (self.offsets, self.sizes, self.checksums, self.lengths)
        shapes = [(count,), (count,), (count,), (count, len(names))]
        if [a.shape for a in arrays] != shapes or not all(a.dtype.kind in 'iu' for a in arrays):
            raise ValueError('its arrays do not fit each other')
        ends = self.offsets + HEAD + self.sizes.astype(np.int64) + TAIL
        if not count or self.offsets[0] or (self.offsets[1:] != ends[:-1]).any():
            raise ValueError('its records do not follow one another')
        if ends[-1] != self.head['file_size']:
            raise ValueError(f'its records end at byte {ends[-1]:,}')
        if (self.lengths < 0).any():
            raise ValueError(
                f'record {int(np.argmax((self.lengths < 0).any(axis=1))):,} has a length below 0'
            )
        too_long = (self.lengths.astype(np.int64).T > (self.sizes + 64.0) * _MOST_A_BYTE).any(
            axis=0
        )
        if too_long.any():
            i = int(np.argmax(too_long))
            raise ValueError(
                f'record {i:,} of {self.sizes[i]:,} bytes has lengths of {self.lengths[i].tolist()}'
            )
        if not isinstance(self.head['meta'], dict) or not all(isinstance(n, str) for n in names):
            raise ValueError('its header is no header')


def _CheckShards(paths: Sequence[str]) -> None:
    """A pattern matches what is there; a shard that was not copied must not be left out for it.

    Raises:
      FileNotFoundError: if a shard is missing on the disk. A pattern for some of them is fine.
    """
    matches = (SHARD_NAME.fullmatch(path) for path in paths)
    for prefix, count in sorted({match.groups() for match in matches if match}):
        for shard in range(int(count)):
            path = f'{prefix}-{shard:05d}-of-{count}.tfrecord'
            if not os.path.exists(path):
                raise FileNotFoundError(f'{path} is missing, one of {int(count)} shards.')


def WriteSidecar(path: str, meta: Optional[Mapping[str, Any]] = None) -> str:
    """Indexes a TFRecord file that has no sidecar, checking TensorFlow's CRC of every record.

    Returns:
      The path of the sidecar.

    Raises:
      ValueError: if the file is empty, cut short or damaged.
    """
    import tensorflow as tf

    offset, rows = 0, []
    try:
        for record in tf.data.TFRecordDataset(path):
            payload = record.numpy()
            rows.append((offset, len(payload), zlib.crc32(payload)))
            offset += HEAD + len(payload) + TAIL
    except tf.errors.DataLossError as error:
        raise ValueError(
            f'{path}, record {len(rows):,} (byte {offset:,}): {error.message}. Make it again.'
        ) from None
    if not rows:
        raise ValueError(f'{path} is empty: it holds no record. Make it again.')
    SaveSidecar(path, rows, [[]] * len(rows), [], dict(meta or {}), offset)
    return SidecarPath(path)


def SaveSidecar(
    path: str,
    rows: Sequence[tuple[int, int, int]],
    lengths: Sequence[Sequence[int]],
    names: Sequence[str],
    meta: Mapping[str, Any],
    file_size: int,
) -> None:
    head = {
        'version': _VERSION,
        'file_size': file_size,
        'length_names': list(names),
        'meta': meta,
    }
    table = np.array(rows, np.int64).reshape(-1, 3)
    arrays: dict[str, np.ndarray] = {
        'head': np.frombuffer(json.dumps(head).encode('utf-8'), np.uint8),
        'offsets': table[:, 0],
        'sizes': table[:, 1].astype(np.uint32),
        'checksums': table[:, 2].astype(np.uint32),
        'lengths': np.array(lengths, np.int32).reshape(len(rows), len(names)),
    }

    def _Write(temporary: str) -> None:
        with open(temporary, 'wb') as file:
            np.savez(file, **arrays)

    cache.WriteWhole(SidecarPath(path), _Write)
