"""Ogg: its pages, each with a checksum, and whether the last one is there (RFC 3533)."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from lingvo_lite.inputs.speech.formats import stream

MAGIC = b'OggS'
_HEAD = 27  # bytes in front of the table of segments
_FIRST, _LAST = 2, 4  # flags of a page
_REVERSED = bytes(int(f'{byte:08b}'[::-1], 2) for byte in range(256))


def Read(file: BinaryIO) -> stream.Stream:
    """Walks all pages."""
    data = stream.ReadAt(file, 0)
    at, first, last = 0, 0, 0
    while at < len(data):
        head = data[at : at + _HEAD]
        if len(head) < _HEAD or head[:4] != MAGIC:
            cut = 'cut short' if MAGIC.startswith(head[:4]) else 'damaged'
            raise ValueError(f'{cut}: no Ogg page begins at byte {at:,}')
        segments = data[at + _HEAD : at + _HEAD + head[26]]
        size = _HEAD + head[26] + sum(segments)
        if len(data) < at + size:
            raise ValueError(f'cut short: the Ogg page at byte {at:,} does not end')
        page = data[at : at + 22] + bytes(4) + data[at + 26 : at + size]
        if _Crc(page) != struct.unpack_from('<I', head, 22)[0]:
            raise ValueError(f'damaged: the checksum of the Ogg page at byte {at:,} is wrong')
        first += head[5] & _FIRST != 0
        last += head[5] & _LAST != 0
        at += size
    if first != 1:
        raise ValueError(f'an Ogg file with {first:,} streams; one is read')
    if not last:
        raise ValueError('cut short: the last page of the Ogg file is missing')
    return stream.Stream()


def _Crc(data: bytes) -> int:
    """The checksum of a page: that of zlib with the bits of each byte, and of itself, reversed."""
    found = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f'{found:032b}'[::-1], 2)
