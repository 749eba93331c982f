"""FLAC, WAV and MP3 to mono float32 in [-1, 1], at any rate that is wanted.

tensorflow-io decodes. It names no file, takes half an MP3 and a FLAC file with a flipped byte for
whole, and reads WAV files of 32-bit integers as floats; so what goes in and what comes out is
checked here: sizes, the number of samples, and the MD5 that FLAC files carry. Threads may decode
at the same time; nearly all of the work holds no Python lock.
"""

from __future__ import annotations

import fractions
import functools
import hashlib
import os
import re
import struct
from typing import Any, Optional

import numpy as np

from lingvo_lite.inputs import source
from lingvo_lite.inputs.speech import audio_headers, resampling

_HEAD_BYTES = 1 << 16
_END_FRAMES = 4096  # see _FlacEnd
_LEAST_TAIL = 1 << 14  # bytes at the end of a FLAC file in which its last frame is looked for
_WORKING_PAIR = 'tensorflow==2.16.2 and tensorflow-io==0.37.1'
_FULL_SCALE = {8: 1 << 7, 16: 1 << 15, 24: 1 << 31, 32: 1 << 31}  # of the arrays that come out


class NativePartError(ImportError):
    """The compiled part of tensorflow-io does not load."""


def CheckNative() -> None:
    """Raises NativePartError if tensorflow-io cannot decode here: before training, not within."""
    import tensorflow as tf

    # In a graph that is never run: what runs sets TensorFlow up, and a job says how, later.
    with tf.Graph().as_default():
        try:
            _Library().decode_wav(_WavFile(1, 1, 8000, 16, bytes(2)), dtype=tf.int16)
        except NotImplementedError as error:
            raise NativePartError(_Explained(error)) from None


def ReadHeader(path: str) -> audio_headers.Header:
    """Rate, channels and number of samples of a file, which is not decoded.

    Raises:
      BadRecordError: if it is missing, empty, cut short, or no FLAC, WAV or MP3.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read(_HEAD_BYTES)
            try:
                if data[:4] in (b'fLaC', b'RIFF'):
                    return audio_headers.Read(data, os.fstat(file.fileno()).st_size)
            except ValueError:
                pass  # a long header; what is wrong is said by the second try
            return audio_headers.Read(data + file.read())
    except OSError as error:
        raise source.BadRecordError(f'{path}: {error.strerror or error}.') from None
    except ValueError as error:
        raise source.BadRecordError(f'{path}: {error}.') from None


def ReadFile(path: str, rate: int) -> np.ndarray:
    """A file as mono float32 [samples] in [-1, 1] at `rate` hertz.

    Raises:
      BadRecordError: as `Decode`, and if there is no such file.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError as error:
        raise source.BadRecordError(f'{path}: {error.strerror or error}.') from None
    own_rate, waveform = Decode(data, path)
    return Convert(waveform, fractions.Fraction(rate, own_rate))


def Convert(waveform: np.ndarray, ratio: fractions.Fraction) -> np.ndarray:
    """`resampling.Resample`, kept within [-1, 1]."""
    if ratio == 1:
        return waveform
    return np.clip(resampling.Resample(waveform, ratio), -1.0, 1.0)


def Decode(data: bytes, name: str, num_samples: Optional[int] = None) -> tuple[int, np.ndarray]:
    """Decodes a FLAC, WAV or MP3 file; several channels are averaged.

    Args:
      data: the bytes of the file.
      name: of the file or record, for errors.
      num_samples: that it must hold, as its index says; None if that is not known.

    Returns:
      Its rate in hertz, and float32 [samples] in [-1, 1].

    Raises:
      BadRecordError: if it is empty, cut short, damaged, no audio, or of another length. The
        message begins with the name and gives the reason.
      NativePartError: if tensorflow-io does not load.
    """
    try:
        header = audio_headers.Read(data)
        if num_samples is not None and header.num_samples not in (None, num_samples):
            raise ValueError(
                f'it holds {header.num_samples:,} samples, its index says {num_samples:,}'
            )
        samples = _Samples(data, header)
        wanted = header.num_samples if num_samples is None else num_samples
        if wanted is not None and len(samples) != wanted:
            raise ValueError(
                f'{len(samples):,} samples decode, not {wanted:,}: cut short or damaged'
            )
        if not len(samples):
            raise ValueError('it holds no samples')
        return header.rate, _Mono(samples, header)
    except ValueError as error:
        raise source.BadRecordError(f'{name}: {error}.') from None


def EncodeFlac(waveform: np.ndarray, rate: int) -> bytes:
    """A FLAC file of 16 bits.

    Args:
      waveform: float [samples] in [-1, 1], or int16.
      rate: in hertz.
    """
    import tensorflow as tf

    if waveform.dtype != np.int16:
        waveform = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    with tf.device('CPU:0'):
        return _Library().encode_flac(waveform[:, None], rate).numpy()


def EncodeWav(waveform: np.ndarray, rate: int) -> bytes:
    """A WAV file of 16 bits, which every browser plays. Arguments as for `EncodeFlac`."""
    if waveform.dtype != np.int16:
        waveform = np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    return _WavFile(1, 1, rate, 16, waveform.astype('<i2').tobytes())


def _Samples(data: bytes, header: audio_headers.Header) -> np.ndarray:
    """[samples, channels], of the type that the file has. ValueError with the reason."""
    if header.format == audio_headers.MP3:
        return _Native('decode_mp3', data, 0)
    is_flac = header.format == audio_headers.FLAC
    if (
        header.bits not in _FULL_SCALE
        or (header.is_float and header.bits != 32)
        or (is_flac and header.bits == 32)
    ):
        kind = 'floats' if header.is_float else 'integers'
        raise ValueError(
            f'{header.format.upper()} of {header.bits}-bit {kind} is not read; 8, 16, 24 and (WAV) '
            "32 bits are. 'sox FILE -b 16 FILE.flac' converts it"
        )
    if is_flac:
        if not header.md5 and not _EndsWithFrame(data, _FlacTail(data, header)):
            raise ValueError('cut short or damaged: it does not end with a whole FLAC frame')
        samples = _Native('decode_flac', data + _FlacEnd(header.bits), header.bits)
        if header.md5 and hashlib.md5(_Interleaved(samples, header.bits)).digest() != header.md5:
            raise ValueError(
                'cut short or damaged: the MD5 of its samples is not the one in its header'
            )
        return samples
    return _Wav(data, header)


@functools.cache
def _FlacEnd(bits: int) -> bytes:
    """FLAC frames to put behind a file, where a decoder that is still looking for frames stops.

    tensorflow-io asks for frames until it has all samples that the header of the file counts, and
    at the end of a file whose last frame was lost it asks for ever. These frames have a number that
    no frame of a file can have, which it takes for an error. They are many, because a damaged frame
    may swallow some. Layout: https://www.rfc-editor.org/rfc/rfc9639, section 9.
    """
    size_code = {8: 0x02, 16: 0x08, 24: 0x0C}[bits]
    # Sync and variable block size; 192 samples at the rate of the file; mono; sample 2**36 - 1.
    head = bytes([0xFF, 0xF9, 0x10, size_code, 0xFE, *[0xBF] * 6])
    body = bytes([_Crc(head, 8, 0x07), 0x00]) + bytes(bits // 8)  # a constant: 0
    checksum = _Crc(head + body, 16, 0x8005).to_bytes(2, 'big')
    return (head + body + checksum) * _END_FRAMES


def _FlacTail(data: bytes, header: audio_headers.Header) -> int:
    """Bytes that hold the last frame: twice what the samples of the largest take as they are.

    An encoder that cannot compress a frame stores it as it is. The size of the largest frame may
    stand in the header too, but not in that of a file written to a pipe, which has no MD5 either.
    """
    start = data.index(b'fLaC') + 8  # of STREAMINFO: smallest and largest block, in samples
    block = int.from_bytes(data[start + 2 : start + 4], 'big')
    return max(_LEAST_TAIL, 2 * block * header.channels * header.bits // 8)


def _EndsWithFrame(data: bytes, tail: int) -> bool:
    """Whether a FLAC file ends where its last frame does, by the checksum of that frame.

    With `_FlacEnd` behind it a cut frame is filled up. The MD5 tells, but some files have none.

    One walk from the end backwards checks all places where the frame may begin. A frame and its
    checksum, taken for a polynomial, are 0 modulo that of the checksum; `value` is this remainder
    for the bytes from `at` on, divided by x**8 for each of them, which leaves a 0 a 0.
    """
    value = 0
    for at in range(len(data) - 1, max(len(data) - tail, 0) - 1, -1):
        value = value >> 8 ^ _BACK[(value ^ data[at]) & 0xFF]
        if not value and data[at : at + 2] in (b'\xff\xf8', b'\xff\xf9'):
            return True
    return False


def _Back(value: int) -> int:
    """value / x**8 modulo the polynomial of the checksum of FLAC frames, x**16 + x**15 + x**2 + 1.

    Where the lowest bit is set the polynomial is added, which leaves the remainder and clears it.
    """
    for _ in range(8):
        value = (value ^ 0x18005 if value & 1 else value) >> 1
    return value


_BACK = [_Back(value) for value in range(256)]


def _Crc(data: bytes, bits: int, polynomial: int) -> int:
    value, top = 0, 1 << (bits - 1)
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & (2 * top - 1)
    return value


def _Wav(data: bytes, header: audio_headers.Header) -> np.ndarray:
    """Gives tensorflow-io a plain header: it stumbles over the sizes that pipes leave."""
    tag = 3 if header.is_float else 1
    body = data[slice(*header.data)]
    plain = _WavFile(tag, header.channels, header.rate, header.bits, body)
    samples = _Native('decode_wav', plain, header.bits)
    if header.bits == 32 and not header.is_float:
        return samples.view(np.int32)  # taken for floats, the bits being right
    if header.is_float and not np.isfinite(samples).all():
        raise ValueError('it holds samples that are not finite')
    return samples


def _Native(function: str, data: bytes, bits: int) -> np.ndarray:
    """What a function of tensorflow-io decodes. ValueError with its reason."""
    import tensorflow as tf

    kinds = {8: tf.uint8, 16: tf.int16, 24: tf.int32, 32: tf.float32}
    kind = {'dtype': kinds[bits]} if bits else {}
    library = _Library()
    try:
        with tf.device('CPU:0'):
            return getattr(library, function)(data, **kind).numpy()
    except NotImplementedError as error:
        raise NativePartError(_Explained(error)) from None
    except tf.errors.OpError as error:
        reason = ' '.join(re.sub(r'{{.*?}}|\[Op:.*?\]', '', error.message).split())
        raise ValueError(f'cut short or damaged: {function} of tensorflow-io: {reason}') from None


def _Library() -> Any:
    try:
        import tensorflow_io as tfio

        return tfio.audio
    except (ImportError, NotImplementedError, AttributeError) as error:
        raise NativePartError(_Explained(error)) from None


def _Explained(error: Exception) -> str:
    import tensorflow as tf

    reason = ' '.join(str(error).split())[:300]
    return (
        f'tensorflow-io, which decodes audio, does not load its native part with tensorflow '
        f'{tf.__version__} ({reason}). A pair that works: {_WORKING_PAIR}.'
    )


def _Interleaved(samples: np.ndarray, bits: int) -> bytes:
    """The bytes that FLAC's MD5 is taken of. samples: [samples, channels] -> signed, low first."""
    if bits == 8:
        return (samples ^ 0x80).tobytes()
    if bits == 16:
        return samples.astype('<i2', copy=False).tobytes()
    # [samples, channels] of 32 bits -> [samples * channels, 4] bytes, of which the low one is 0
    return (
        np.ascontiguousarray(samples.astype('<i4')).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    )


def _Mono(samples: np.ndarray, header: audio_headers.Header) -> np.ndarray:
    """[samples, channels] -> [samples] float32 in [-1, 1]."""
    wide = samples.astype(np.float32)
    if samples.dtype == np.uint8:
        wide -= 128
    mono = wide[:, 0] if wide.shape[1] == 1 else wide.mean(axis=1)
    if samples.dtype != np.float32:
        mono *= np.float32(1 / _FULL_SCALE[header.bits])
    return np.clip(mono, -1.0, 1.0)


def _WavFile(tag: int, channels: int, rate: int, bits: int, body: bytes) -> bytes:
    frame = channels * bits // 8
    a_second = min(rate * frame, 0xFFFFFFFF)
    form = struct.pack('<HHIIHH', tag, channels, rate, a_second, frame, bits)
    size = struct.pack('<I', 4 + 8 + len(form) + 8 + len(body))
    parts = [b'RIFF', size, b'WAVEfmt ', struct.pack('<I', len(form)), form]
    return b''.join([*parts, b'data', struct.pack('<I', len(body)), body])
