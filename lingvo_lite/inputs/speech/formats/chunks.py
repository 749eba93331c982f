"""Files of chunks: WAV (RIFF, RIFX, RF64), AIFF and AIFC, CAF.

RIFF size WAVE | fmt  size ... | LIST size ... | data size samples
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from lingvo_lite.inputs.speech.formats import stream

_MOST = 1000  # chunks that are looked at
_UNKNOWN_32 = 0xFFFFFFFF


class _Kind(NamedTuple):
    """How a kind of file is laid out.

    Attributes:
      name: for messages.
      first: byte at which the first chunk begins.
      head: name and size of a chunk, for `struct`.
      data: name of the chunk of samples.
      align: chunks begin at multiples of so many bytes.
    """

    name: str
    first: int
    head: str
    data: bytes
    align: int


KINDS = {
    b'RIFF': _Kind('WAV', 12, '<4sI', b'data', 2),
    b'RIFX': _Kind('WAV', 12, '>4sI', b'data', 2),
    b'RF64': _Kind('WAV', 12, '<4sI', b'data', 2),
    b'FORM': _Kind('AIFF', 12, '>4sI', b'SSND', 2),
    b'caff': _Kind('CAF', 8, '>4sQ', b'data', 1),
}


def Read(file: BinaryIO) -> stream.Stream:
    """Looks for the samples. A size that is not known is put right."""
    size = stream.Size(file)
    kind = KINDS[stream.ReadAt(file, 0, 4)]
    at, wide = kind.first, 0  # byte of the true size in RF64
    for _ in range(_MOST):
        head = stream.ReadAt(file, at, struct.calcsize(kind.head))
        if len(head) < struct.calcsize(kind.head):
            raise ValueError(f'a {kind.name} file that is cut short within its header')
        name, length = struct.unpack(kind.head, head)
        begin = at + len(head)
        if name == b'ds64':
            wide = begin + 8  # behind the size of the file
        if name == kind.data:
            break
        at = begin + -(-length // kind.align) * kind.align
    else:
        raise ValueError(f'a damaged {kind.name} file: its samples are not among {_MOST:,} chunks')
    there = size - begin
    field, layout = at + 4, kind.head[0] + kind.head[-1]
    if wide and length == _UNKNOWN_32:
        field, layout = wide, '<Q'
        length = int.from_bytes(stream.ReadAt(file, wide, 8), 'little')
    if length > there and not stream.IsUnknown(length):
        stream.CheckCut(there, length)
    if length == 0 or length > there:
        most = (1 << 8 * struct.calcsize(layout)) - 1
        return stream.Stream(patches=((field, struct.pack(layout, min(there, most))),))
    return stream.Stream()
