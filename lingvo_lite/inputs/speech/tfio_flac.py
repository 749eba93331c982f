"""FLAC by tensorflow-io, where it loads: with TensorFlow 2.16 alone.

It names no file and takes a file with a flipped byte for whole; what goes in and what comes out is
checked by its caller.
"""

from __future__ import annotations

import functools
import re
import threading
from typing import Any, Optional

import numpy as np

BITS = (8, 16, 24)  # of a sample, that it decodes exactly
_END_FRAMES = 4096  # see _End
_lock = threading.Lock()


def Loads() -> bool:
    """Whether tensorflow-io is there and its native part loads with this TensorFlow."""
    with _lock:
        return _Library() is not None


@functools.cache
def _Library() -> Optional[Any]:
    try:
        import tensorflow as tf
        import tensorflow_io as tfio

        # In a graph that is never run: what runs sets TensorFlow up, and a job says how, later.
        with tf.Graph().as_default():
            tfio.audio.decode_flac(tf.constant(b''), dtype=tf.int16)
    except (ImportError, NotImplementedError, AttributeError):
        return None
    return tfio.audio


def Samples(data: bytes, bits: int) -> np.ndarray:
    """Decodes a FLAC file whose header says how many samples it holds.

    Args:
      data: the file.
      bits: of a sample, one of BITS.

    Returns:
      [samples, channels]: int16 or int32 that use all of their bits.

    Raises:
      ValueError: with tensorflow-io's reason.
    """
    import tensorflow as tf

    library: Any = _Library()
    kind = {8: tf.uint8, 16: tf.int16, 24: tf.int32}[bits]
    try:
        with tf.device('CPU:0'):
            samples = library.decode_flac(data + _End(bits), dtype=kind).numpy()
    except tf.errors.OpError as error:
        reason = ' '.join(re.sub(r'{{.*?}}|\[Op:.*?\]', '', error.message).split())
        raise ValueError(f'cut short or damaged: decode_flac of tensorflow-io: {reason}') from None
    return (samples.astype(np.int16) - 128) << 8 if bits == 8 else samples


@functools.cache
def _End(bits: int) -> bytes:
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


def _Crc(data: bytes, bits: int, polynomial: int) -> int:
    value, top = 0, 1 << (bits - 1)
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & (2 * top - 1)
    return value
