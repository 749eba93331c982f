"""FLAC: its header, and whether it ends with a whole frame (https://www.rfc-editor.org/rfc/rfc9639).

A file that was written to a pipe says neither how many samples it holds nor their MD5. The number
stands in its last frame.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO, NamedTuple, Optional

import numpy as np

from lingvo_lite.inputs.speech.formats import stream

MAGIC = b'fLaC'
_LEAST_TAIL = 1 << 14  # bytes at the end of a file in which its last frame is looked for
_INFO = 34  # bytes of STREAMINFO, 8 behind the magic
_COUNT = slice(13, 18)  # of it: four bits of something else, and the number of samples


def Read(file: BinaryIO, start: int = 0) -> stream.Stream:
    """Reads STREAMINFO; without an MD5 also the last frame.

    Args:
      file: the file.
      start: where FLAC begins, behind a tag.
    """
    at = start + 8
    info = stream.ReadAt(file, at, _INFO)
    if len(info) < _INFO or stream.ReadAt(file, start + 4, 1)[0] & 0x7F:
        raise ValueError('a FLAC file that is cut short within its header')
    count = int.from_bytes(info[_COUNT], 'big') & (1 << 36) - 1
    md5 = info[18:34] if any(info[18:34]) else b''
    if count and md5:
        return stream.Stream(start, md5=md5)
    last = _LastFrame(file, at + _INFO, info)
    if last is None:
        raise ValueError('cut short or damaged: it does not end with a whole FLAC frame')
    if count:
        return stream.Stream(start)
    found = last.first + last.samples
    if found >= 1 << 36:
        raise ValueError(f'a damaged FLAC file: its last frame begins at sample {last.first:,}')
    own = int.from_bytes(info[_COUNT], 'big') | found
    patch = at + _COUNT.start, own.to_bytes(5, 'big')
    return stream.Stream(start, patches=(patch,), md5=md5)


def Md5(samples: np.ndarray, bits: int) -> bytes:
    """Of samples as FLAC takes it: signed, low byte first, channels interleaved.

    Args:
      samples: int16 or int32 [samples, channels], that use all of their bits.
      bits: of a sample in the file.
    """
    size, wide = bits // 8, samples.dtype.itemsize
    whole = np.ascontiguousarray(samples.astype(f'<i{wide}', copy=False))
    if size == wide:
        return hashlib.md5(whole.data).digest()
    # [samples, channels] -> [samples * channels, bytes], of which the high ones are wanted
    return hashlib.md5(whole.view(np.uint8).reshape(-1, wide)[:, -size:].tobytes()).digest()


class _Frame(NamedTuple):
    """Where a frame stands, in samples of each channel."""

    first: int
    samples: int


def _LastFrame(file: BinaryIO, first: int, info: bytes) -> Optional[_Frame]:
    """The frame with which a file ends, by its checksum; None if none does.

    Looks into as many bytes as hold the last frame: twice what the samples of the largest take as
    they are. An encoder that cannot compress a frame stores it as it is. The size of the largest
    frame may stand in the header too, but not in that of a file written to a pipe.

    One walk from the end backwards checks all places where the frame may begin. A frame and its
    checksum, taken for a polynomial, are 0 modulo that of the checksum; `value` is this remainder
    for the bytes from `at` on, divided by x**8 for each of them, which leaves a 0 a 0.
    """
    block = int.from_bytes(info[2:4], 'big')
    channels, bits = (info[12] >> 1 & 7) + 1, (info[12] << 4 & 16 | info[13] >> 4) + 1
    size = stream.Size(file)
    tail = min(max(_LEAST_TAIL, 2 * block * channels * bits // 8), size - first)
    data = stream.ReadAt(file, size - tail, tail)
    value = 0
    for at in range(len(data) - 1, -1, -1):
        value = value >> 8 ^ _BACK[(value ^ data[at]) & 0xFF]
        if not value and data[at : at + 2] in (b'\xff\xf8', b'\xff\xf9'):
            found = _FrameAt(data[at:], block)
            if found:
                return found
    return None


def _FrameAt(data: bytes, block: int) -> Optional[_Frame]:
    """The frame whose header begins `data`. Section 9.1 of the RFC.

    Args:
      data: with the header in front.
      block: samples of each frame where all but the last have as many.
    """
    if len(data) < 7:
        return None
    # A number as in UTF-8, of up to 36 bits: 0xxxxxxx, 110xxxxx 10xxxxxx, ...
    ones = 8 - (data[4] ^ 0xFF).bit_length()
    extra = max(ones - 1, 0)
    number = data[4] & (0x7F >> ones)
    for byte in data[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    code, at = data[2] >> 4, 5 + extra
    if code in (6, 7):
        samples = int.from_bytes(data[at : at + code - 5], 'big') + 1
    elif code == 1:
        samples = 192
    elif code:
        samples = 576 << code - 2 if code < 6 else 256 << code - 8
    else:
        return None
    return _Frame(number if data[1] & 1 else number * block, samples)


def _Back(value: int) -> int:
    """value / x**8 modulo the polynomial of the checksum of FLAC frames, x**16 + x**15 + x**2 + 1.

    Where the lowest bit is set the polynomial is added, which leaves the remainder and clears it.
    """
    for _ in range(8):
        value = (value ^ 0x18005 if value & 1 else value) >> 1
    return value


_BACK = [_Back(value) for value in range(256)]
