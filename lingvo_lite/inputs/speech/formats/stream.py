"""Where in a file its sound lies, and what has to be put right before a decoder reads it."""

from __future__ import annotations

import dataclasses
import os
from typing import BinaryIO, Optional

_FARTHEST = (1 << 63) - 1  # byte that can be asked for


@dataclasses.dataclass(frozen=True)
class Stream:
    """What a decoder is given of a file.

    Attributes:
      start: first byte.
      end: last byte, exclusive; None for the end of the file.
      head: bytes in front of them.
      patches: (byte in the file, what stands there instead).
      num_samples: of each channel; None where libsndfile knows it.
      md5: of the samples, which FLAC files hold; empty where there is none.
    """

    start: int = 0
    end: Optional[int] = None
    head: bytes = b''
    patches: tuple[tuple[int, bytes], ...] = ()
    num_samples: Optional[int] = None
    md5: bytes = b''

    @property
    def is_whole(self) -> bool:
        """Whether a decoder is given the file as it is."""
        return self == Stream(num_samples=self.num_samples, md5=self.md5)

    def Of(self, data: bytes) -> bytes:
        """The bytes that a decoder is given. data: the file."""
        if self.is_whole:
            return data
        changed = bytearray(data)
        for at, value in self.patches:
            changed[at : at + len(value)] = value
        return self.head + bytes(changed[self.start : self.end])


def Size(file: BinaryIO) -> int:
    """Of a file, in bytes."""
    return file.seek(0, os.SEEK_END)


def ReadAt(file: BinaryIO, at: int, count: int = -1) -> bytes:
    """`count` bytes from byte `at` on, or all; fewer where the file ends."""
    file.seek(min(at, _FARTHEST))
    return file.read(count)


def CheckCut(there: int, wanted: int, what: str = 'bytes of samples') -> None:
    """Raises ValueError if less is there than a header says."""
    if there < wanted:
        raise ValueError(
            f'cut short: its header says {wanted:,} {what}, {max(there, 0):,} are there'
        )


def IsUnknown(size: int) -> bool:
    """Whether a size is what a writer puts there that cannot come back to it: one to a pipe.

    0; -1 of 64 bits; and for 32 bits the largest round or signed or unsigned number, less some
    bytes for the header: 0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF.
    """
    return size in (0, (1 << 64) - 1) or any(
        abs(size - largest) <= 1 << 16 for largest in (0x7F000000, 1 << 31, 1 << 32)
    )
