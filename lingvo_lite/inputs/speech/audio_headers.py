"""What the head of an audio file says: FLAC, WAV or MP3, told by its content, not by its name.

Knows rate, channels and number of samples without decoding, and notices files that are cut short.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from typing import Optional

FLAC, WAV, MP3 = 'flac', 'wav', 'mp3'
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # wFormatTag of WAV
_LOWEST, _HIGHEST = 1000, 1_000_000  # hertz: anything else is a damaged header
_UNKNOWN_SIZE = 0xFFFFFFFF  # of the data of a WAV file that was written to a pipe
_KBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
      format: FLAC, WAV or MP3.
      rate: samples a second of each channel.
      channels: number of channels.
      num_samples: of each channel; None where the file does not say (FLAC written to a pipe).
      bits: of a sample; 0 for MP3.
      is_float: whether the samples of a WAV file are floats.
      md5: of the samples, which FLAC files hold; empty where unknown.
      data: first and last byte (exclusive) of the samples of a WAV file.
    """

    format: str
    rate: int
    channels: int
    num_samples: Optional[int]
    bits: int = 0
    is_float: bool = False
    md5: bytes = b''
    data: tuple[int, int] = (0, 0)


def Read(data: bytes, size: Optional[int] = None) -> Header:
    """Reads the head of an audio file.

    Args:
      data: the file, or at least its first bytes; of an MP3 file all of it.
      size: of the whole file in bytes; None if data is the whole.

    Raises:
      ValueError: if it is empty, cut short, or no FLAC, WAV or MP3. The message is the reason.
    """
    size = len(data) if size is None else size
    if not size:
        raise ValueError('the file is empty (0 bytes)')
    start = _BehindId3(data)
    if data[start : start + 4] == b'fLaC':
        header = _Flac(data, start)
    elif data[:4] == b'RIFF' and data[8:12] == b'WAVE':
        header = _Wav(data, size)
    elif IsMp3(data):
        header = _Mp3(data, start)
    else:
        raise ValueError(f'no FLAC, WAV or MP3 file: it begins with {data[:12]!r}')
    if not header.rate or not header.channels:
        raise ValueError(f'its header says {header.rate} Hz and {header.channels} channels')
    if not _LOWEST <= header.rate <= _HIGHEST:
        raise ValueError(
            f'its header says {header.rate:,} Hz; {_LOWEST:,} to {_HIGHEST:,} are read'
        )
    if header.num_samples == 0:
        raise ValueError('it holds no samples')
    return header


def IsMp3(data: bytes) -> bool:
    """Whether an MPEG frame of layer III, or a tag before one, begins here."""
    return data[:3] == b'ID3' or _FrameAt(data, 0) is not None


def _BehindId3(data: bytes) -> int:
    """Where an ID3v2 tag at the beginning ends; 0 if there is none."""
    if data[:3] != b'ID3' or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _Flac(data: bytes, start: int) -> Header:
    """https://www.rfc-editor.org/rfc/rfc9639, section 8.2."""
    info = data[start + 8 : start + 42]
    if len(info) < 34 or data[start + 4] & 0x7F:
        raise ValueError('a FLAC file that is cut short within its header')
    packed = int.from_bytes(info[10:18], 'big')
    return Header(
        format=FLAC,
        rate=packed >> 44,
        channels=(packed >> 41 & 7) + 1,
        bits=(packed >> 36 & 31) + 1,
        num_samples=packed & (1 << 36) - 1 or None,
        md5=info[18:34] if any(info[18:34]) else b'',
    )


def _Wav(data: bytes, size: int) -> Header:
    form: Optional[tuple[int, ...]] = None
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], struct.unpack_from('<I', data, at + 4)[0]
        at += 8
        if name == b'fmt ' and length >= 16 and at + length <= len(data):
            form = struct.unpack_from('<HHIIHH', data, at)
            if form[0] == _EXTENSIBLE and length >= 26:
                form = (*struct.unpack_from('<H', data, at + 24), *form[1:])
        elif name == b'data':
            if form is None:
                raise ValueError('a WAV file without a format before its samples')
            return _WavData(form, at, length, size)
        at += length + length % 2
    raise ValueError('a WAV file that is cut short within its header')


def _WavData(form: tuple[int, ...], start: int, length: int, size: int) -> Header:
    tag, channels, rate, _, frame_bytes, bits = form
    if tag not in (_PCM, _FLOAT):
        raise ValueError(
            f'a WAV file with encoding {tag} (1, integers, and 3, floats, are read). '
            "'ffmpeg -i FILE FILE.flac' converts it"
        )
    if not frame_bytes or frame_bytes * 8 != channels * bits:
        raise ValueError(f'a WAV file with {channels} x {bits} bits in {frame_bytes} bytes')
    there = size - start
    if length == _UNKNOWN_SIZE or not length:
        length = there
    if length > there:
        raise ValueError(
            f'cut short: its header says {length:,} bytes of samples, {max(there, 0):,} are there'
        )
    count = length // frame_bytes
    end = start + count * frame_bytes
    return Header(WAV, rate, channels, count, bits, tag == _FLOAT, data=(start, end))


@dataclasses.dataclass(frozen=True)
class _Frame:
    """One MPEG audio frame, layer III."""

    size: int  # bytes
    samples: int
    rate: int
    channels: int


def _FrameAt(data: bytes, at: int) -> Optional[_Frame]:
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
    return _Frame(size, samples, hertz, 1 if head[3] >> 6 == 3 else 2)


def _Frames(data: bytes, at: int) -> Iterator[_Frame]:
    """All frames. Raises ValueError where the last one is cut, or something else stands there."""
    while at < len(data):
        frame = _FrameAt(data, at)
        if frame is None:
            rest = data[at:]
            if rest[:3] == b'TAG' or rest[:8] == b'APETAGEX' or not any(rest):
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


def _Mp3(data: bytes, start: int) -> Header:
    """Walks all frames; compares their number with that of a Xing header, which most files have."""
    frames = list(_Frames(data, start))
    if not frames:
        raise ValueError('an MP3 file without frames')
    first = frames[0]
    count, skipped = _Xing(data[start : start + first.size])
    if count is None:
        return Header(MP3, first.rate, first.channels, sum(f.samples for f in frames))
    if len(frames) - 1 < count:
        raise ValueError(
            f'cut short: its header says {count:,} MP3 frames, {len(frames) - 1:,} are'
        )
    samples = sum(f.samples for f in frames[1 : count + 1]) - skipped
    return Header(MP3, first.rate, first.channels, max(samples, 0))


def _Xing(frame: bytes) -> tuple[Optional[int], int]:
    """The number of frames that follow, and samples of them that are encoder delay or padding."""
    at = max(frame.find(b'Xing', 0, 64), frame.find(b'Info', 0, 64))
    if at < 0 or len(frame) < at + 12:
        return None, 0
    flags, count = struct.unpack_from('>II', frame, at + 4)
    if not flags & 1:
        return None, 0
    encoder = at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1)
    encoder += 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    tag = frame[encoder : encoder + 24]
    if len(tag) < 24 or tag[:4] not in (b'LAME', b'Lavf', b'Lavc'):
        return count, 0
    packed = int.from_bytes(tag[21:24], 'big')
    return count, (packed >> 12) + (packed & 0xFFF)
