"""Sidecars: what is known of the records of a TFRecord file before it is read.

Beside `train-00000-of-00032.tfrecord` stands `train-00000-of-00032.tfrecord.index.npz`: offsets,
sizes in bytes, checksums and example lengths of all records, and a JSON header. It is plain arrays
and JSON, no pickle. `WriteShards` writes both; `WriteSidecar` indexes a file that came from
elsewhere. The data file is a standard one, which TensorFlow's own reader takes too.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from lingvo_lite.inputs import cache, data_files

_VERSION = 1
HEAD, TAIL = 12, 4  # bytes around each payload: length and its CRC, CRC of the payload
# Of any length a record can tell: FLAC has 65,535 samples of silence in 14 bytes. What claims more
# would make batches that no memory holds.
_MOST_A_BYTE = 8192
# As `writing.WriteShards` names files.
SHARD_NAME = re.compile(r'(.*)-\d{5}-of-(\d{5})\.tfrecord', re.DOTALL)


def SidecarPath(path: str) -> str:
    """Where the sidecar of a TFRecord file stands."""
    return path + data_files.SIDECAR


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
    """Writes the sidecar of a TFRecord file.

    Args:
      path: of the TFRecord file.
      rows: (offset, size, CRC-32 of the payload) of each record; offset and size in bytes.
      lengths: of each example.
      names: what the lengths count.
      meta: JSON-able.
      file_size: of the TFRecord file, in bytes.
    """
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
