"""Audio files to mono float32 in [-1, 1], at any rate that is wanted.

There are two decoders: tensorflow-io for FLAC, where it loads, and libsndfile for all else, and for
all of it elsewhere. What goes in and what comes out is checked here, whichever it was: sizes, the
number of samples, and the MD5 that FLAC files carry. Threads may decode at the same time.
"""

from __future__ import annotations

import fractions
import io
import wave
from typing import Callable, Optional

import numpy as np
from absl import logging

from lingvo_lite.inputs import source
from lingvo_lite.inputs.speech import audio_headers, libsndfile, resampling, tfio_flac
from lingvo_lite.inputs.speech.formats import flac

NativePartError = libsndfile.NativePartError
_BEYOND = 1 + 2.0**-15  # full scale and a step of 16 bits
Clipped = Callable[[int], None]  # is told how many samples lie beyond full scale, if any do


def CheckNative() -> None:
    """Raises NativePartError if audio cannot be decoded here: before training, not within."""
    libsndfile.Load()
    tfio_flac.Loads()


def ReadHeader(path: str) -> audio_headers.Header:
    """Rate, channels and number of samples of a file, which is not decoded.

    Raises:
      BadRecordError: if it is missing, empty, cut short, or no audio file that is read.
    """
    try:
        with open(path, 'rb') as file:
            return audio_headers.Read(file)
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


def Convert(
    waveform: np.ndarray, ratio: fractions.Fraction, clipped: Optional[Clipped] = None
) -> np.ndarray:
    """`resampling.Resample`, kept within [-1, 1]; `clipped` as for `Decode`."""
    if ratio == 1:
        return waveform
    return _Clip(resampling.Resample(waveform, ratio), clipped)


def Decode(
    data: bytes, name: str, num_samples: Optional[int] = None, clipped: Optional[Clipped] = None
) -> tuple[int, np.ndarray]:
    """Decodes an audio file; several channels are averaged.

    Args:
      data: the bytes of the file.
      name: of the file or record, for errors.
      num_samples: that it must hold, as its index says; None if that is not known.
      clipped: is told how many samples are clipped, if any are; the log, if None.

    Returns:
      Its rate in hertz, and float32 [samples] in [-1, 1].

    Raises:
      BadRecordError: if it is empty, cut short, damaged, no audio, or of another length. The
        message begins with the name and gives the reason.
      NativePartError: if libsndfile does not load.
    """
    try:
        header = audio_headers.Read(io.BytesIO(data))
        if num_samples not in (None, header.num_samples):
            raise ValueError(
                f'it holds {header.num_samples:,} samples, its index says {num_samples:,}'
            )
        samples = _Samples(header.stream.Of(data), header)
        if len(samples) != header.num_samples:
            raise ValueError(
                f'{len(samples):,} samples decode, not {header.num_samples:,}: cut short or damaged'
            )
        waveform = _Mono(samples)
    except ValueError as error:
        raise source.BadRecordError(f'{name}: {error}.') from None
    return header.rate, _Clip(waveform, clipped or (lambda count: _LogClipped(name, count)))


def EncodeFlac(waveform: np.ndarray, rate: int) -> bytes:
    """A FLAC file of 16 bits.

    Args:
      waveform: float [samples] in [-1, 1], or int16.
      rate: in hertz.
    """
    return libsndfile.EncodeFlac(_Int16(waveform), rate)


def EncodeWav(waveform: np.ndarray, rate: int) -> bytes:
    """A WAV file of 16 bits, which every browser plays. Arguments as for `EncodeFlac`."""
    file = io.BytesIO()
    with wave.open(file, 'wb') as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(_Int16(waveform).astype('<i2').tobytes())
    return file.getvalue()


def _Samples(data: bytes, header: audio_headers.Header) -> np.ndarray:
    """[samples, channels]: int16 or int32 that use all of their bits, or float32.

    Args:
      data: what a decoder is given.
      header: of the file.
    """
    is_flac = header.format == audio_headers.FLAC
    if is_flac and header.bits in tfio_flac.BITS and tfio_flac.Loads():
        samples = tfio_flac.Samples(data, header.bits)
    else:
        samples = libsndfile.Samples(data, header.info)
    md5 = header.stream.md5
    if md5 and flac.Md5(samples, header.bits) != md5:
        raise ValueError(
            'cut short or damaged: the MD5 of its samples is not the one in its header'
        )
    return samples


def _Mono(samples: np.ndarray) -> np.ndarray:
    """[samples, channels] -> [samples] float32, full scale being 1."""
    wide = samples.astype(np.float32)
    mono = wide[:, 0] if wide.shape[1] == 1 else wide.mean(axis=1)
    if samples.dtype != np.float32:
        return mono * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
    if not np.isfinite(mono).all():
        raise ValueError('it holds samples that are not finite')
    return mono


def _Clip(waveform: np.ndarray, clipped: Optional[Clipped]) -> np.ndarray:
    """Keeps samples within [-1, 1]."""
    peak = max(waveform.max(initial=0.0), -waveform.min(initial=0.0))
    if peak > _BEYOND and clipped:
        clipped(int((np.abs(waveform) > _BEYOND).sum()))
    return np.clip(waveform, -1.0, 1.0) if peak > 1 else waveform


def _LogClipped(name: str, count: int) -> None:
    logging.warning('%s: %s', name, ClippedText(count))


def ClippedText(count: int) -> str:
    """What `count` samples that were clipped are reported by."""
    return f'{count:,} samples lie beyond full scale and are clipped.'


def _Int16(waveform: np.ndarray) -> np.ndarray:
    if waveform.dtype == np.int16:
        return waveform
    return np.round(np.clip(waveform, -1, 1) * 32767).astype(np.int16)
