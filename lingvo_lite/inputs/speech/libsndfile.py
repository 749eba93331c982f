"""libsndfile, through the package soundfile: what it says of a file, what it decodes and encodes.

Threads may use it at the same time; nearly all of the work holds no Python lock.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO, NamedTuple

import numpy as np

# {coding: bits of a sample}, of those whose samples are integers.
BITS = {'PCM_S8': 8, 'PCM_U8': 8, 'PCM_16': 16, 'PCM_24': 24, 'PCM_32': 32}
_WIDE = ('PCM_24', 'PCM_32', 'ALAC_20', 'ALAC_24', 'ALAC_32')
_FLOATS = ('FLOAT', 'DOUBLE', 'VORBIS', 'OPUS', 'MPEG_LAYER_III')


class NativePartError(ImportError):
    """The compiled part of soundfile does not load."""


class Info(NamedTuple):
    """What libsndfile says of a file.

    Attributes:
      format, coding: its names for them: 'WAV', 'PCM_16'.
      rate: in hertz.
      channels: number of channels.
      num_samples: of each channel.
    """

    format: str
    coding: str
    rate: int
    channels: int
    num_samples: int


def Load() -> Any:
    """The module soundfile. Raises NativePartError."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise NativePartError(
            f'soundfile, which decodes audio by libsndfile, does not load ({reason}). '
            "'pip install --force-reinstall soundfile' brings one that does."
        ) from None
    return soundfile


def Read(file: BinaryIO) -> Info:
    """Reads the head of a file. Raises ValueError with libsndfile's reason."""
    library = Load()
    try:
        file.seek(0)
        with library.SoundFile(file) as opened:
            return Info(
                opened.format, opened.subtype, opened.samplerate, opened.channels, opened.frames
            )
    except library.SoundFileError as error:
        raise ValueError(_Reason(error)) from None


def Samples(data: bytes, info: Info) -> np.ndarray:
    """Decodes a file.

    Args:
      data: the file.
      info: what `Read` says of it.

    Returns:
      [samples, channels]: int16 or int32 that use all of their bits, or float32.

    Raises:
      ValueError: with libsndfile's reason.
    """
    library = Load()
    kind = 'float32' if info.coding in _FLOATS else 'int32' if info.coding in _WIDE else 'int16'
    try:
        with library.SoundFile(io.BytesIO(data)) as opened:
            return opened.read(dtype=kind, always_2d=True)
    except library.SoundFileError as error:
        raise ValueError(_Reason(error)) from None
    except MemoryError:
        raise ValueError(f'its header says {info.num_samples:,} samples') from None


def EncodeFlac(samples: np.ndarray, rate: int) -> bytes:
    """A FLAC file. samples: int16 [samples]; rate: in hertz."""
    file = io.BytesIO()
    Load().write(file, samples, rate, format='FLAC', subtype='PCM_16')
    return file.getvalue()


def _Reason(error: Exception) -> str:
    text = getattr(error, 'error_string', '') or str(error)
    return f'cut short or damaged: libsndfile: {" ".join(text.split()).rstrip(".")}'
