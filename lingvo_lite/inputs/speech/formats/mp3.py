"""MP3: its frames, one by one, and what is no frame in front of them and behind.

libsndfile guesses the length of a file without a Xing header from its size, tags included, and
reads no further; so such files are given a large tag.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, Optional

from lingvo_lite.inputs.speech.formats import stream

_KBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SYNC = re.compile(rb'\xff(?=[\xe2-\xff])')
_MOST_JUNK = 1 << 16  # bytes in front of the first frame, tags not counted
_CHAIN = 3  # frames that follow each other are no chance
_MARGIN = 4096  # bytes
_DECODER_DELAY = 529  # samples, which the delay that an encoder notes does not contain
_TAGS = (b'TAG', b'APETAGEX', b'LYRICSBEGIN', b'ID3')  # that may stand behind the last frame
_APE_FOOTER, _ID3V1 = 32, 128  # bytes


class Frame(NamedTuple):
    """One MPEG audio frame, layer III."""

    size: int  # bytes
    samples: int
    rate: int
    channels: int


def Begins(data: bytes) -> bool:
    """Whether the first bytes of a file are those of an MP3 file, junk in front of it included."""
    return data[:3] == b'ID3' or FirstFrame(data, 0) is not None


def BehindId3(data: bytes) -> int:
    """Where an ID3v2 tag at the beginning ends; 0 if there is none."""
    if data[:3] != b'ID3' or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if data[5] & 0x10 else 0)


def Read(file: BinaryIO) -> stream.Stream:
    """Walks all frames; compares their number with that of a Xing header, which most files have."""
    data = stream.ReadAt(file, 0)
    tag = BehindId3(data)
    start = FirstFrame(data, tag)
    if start is None:
        cut = 'cut short: ' if tag > len(data) else ''
        raise ValueError(f'{cut}an MP3 file without frames')
    frames = list(_Frames(data, start))
    end = start + sum(frame.size for frame in frames)
    first = data[start : start + frames[0].size]
    count, skipped = _Xing(first)
    if count is not None and len(frames) - 1 < count:
        raise ValueError(
            f'cut short: its header says {count:,} MP3 frames, {len(frames) - 1:,} are there'
        )
    if count == len(frames) - 1:
        samples = sum(frame.samples for frame in frames[1:])
        return stream.Stream(start, end, num_samples=max(samples - skipped, 0))
    # Without a header, with one that says nothing, or with one of another part of the file.
    if count is not None or first[36:40] == b'VBRI' or _XingAt(first) >= 0:
        start, frames = start + frames[0].size, frames[1:]
    if not frames:
        raise ValueError('it holds no samples')
    samples = sum(frame.samples for frame in frames)
    return stream.Stream(start, end, _Id3(frames), num_samples=samples)


def FirstFrame(data: bytes, start: int) -> Optional[int]:
    """Where the first frame begins, from `start` on; None if none does."""
    if FrameAt(data, start):
        return start
    for found in _SYNC.finditer(data, start, start + _MOST_JUNK):
        at = found.start()
        for _ in range(_CHAIN):
            frame = FrameAt(data, at)
            if frame is None:
                break
            at += frame.size
        else:
            return found.start()
    return None


def FrameAt(data: bytes, at: int) -> Optional[Frame]:
    """The frame whose header stands there, if one does."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    kbits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
        return None
    table, samples = (_KBITS_MPEG1, 1152) if version == 3 else (_KBITS_MPEG2, 576)
    hertz = _RATES[version][rate]
    size = samples // 8 * table[kbits] * 1000 // hertz + padding
    return Frame(size, samples, hertz, 1 if head[3] >> 6 == 3 else 2)


def _Frames(data: bytes, at: int) -> Iterator[Frame]:
    """All frames. Raises ValueError where the last one is cut, or something else stands there."""
    while at < len(data):
        frame = FrameAt(data, at)
        if frame is None:
            rest = data[at:]
            if _IsTag(rest):
                return
            if len(rest) < 4:
                raise ValueError(f'cut short: an MP3 frame begins at byte {at:,} and does not end')
            raise ValueError(f'a damaged MP3 file: no frame begins at byte {at:,}')
        if at + frame.size > len(data):
            raise ValueError(
                f'cut short: the MP3 frame at byte {at:,} has {frame.size:,} bytes, '
                f'{len(data) - at:,} are there'
            )
        yield frame
        at += frame.size


def _IsTag(rest: bytes) -> bool:
    """Whether what stands behind the last frame is a tag, or nothing but zeros in front of one."""
    rest = rest.lstrip(b'\0')
    if not rest or rest.startswith(_TAGS):
        return True
    if rest[-_ID3V1:].startswith(b'TAG'):
        rest = rest[:-_ID3V1]
    # APEv1 has no header, but a footer that says how long it is.
    footer = rest[-_APE_FOOTER:]
    return footer.startswith(b'APETAGEX') and footer[12:16] == struct.pack('<I', len(rest))


def _XingAt(frame: bytes) -> int:
    """Where a Xing header begins in the first frame; -1 if there is none."""
    return max(frame.find(b'Xing', 0, 64), frame.find(b'Info', 0, 64))


def _Xing(frame: bytes) -> tuple[Optional[int], int]:
    """The number of frames that follow, and how many of their samples are no sound.

    Those are what the encoder notes, delay in front and padding behind, and the delay of a decoder,
    which comes in front and out of the padding. libsndfile cuts them off, whatever the encoder.
    """
    at = _XingAt(frame)
    if at < 0 or len(frame) < at + 12:
        return None, 0
    flags, count = struct.unpack_from('>II', frame, at + 4)
    if not flags & 1:
        return None, 0
    encoder = at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1)
    encoder += 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    tag = frame[encoder : encoder + 24]
    if len(tag) < 24:
        return count, 0
    packed = int.from_bytes(tag[21:24], 'big') if tag[0] else 0
    return count, (packed >> 12) + max(packed & 0xFFF, _DECODER_DELAY)


def _Id3(frames: Sequence[Frame]) -> bytes:
    """An empty ID3v2 tag, so large that a guess from the size of the first frame is no less."""
    missing = len(frames) * (frames[0].size + 1) - sum(frame.size for frame in frames)
    size = min(max(missing, 0) + _MARGIN, (1 << 28) - 1)
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b'ID3\4\0\0' + digits + bytes(size)
