"""Random changes of waveforms for training, on the host: speed, and noise at a level.

Each draw is a function of (seed, epoch, id of the example) alone, so it does not depend on the
batch, the replica, or whether the run was interrupted.
"""

from __future__ import annotations

import fractions
from collections.abc import Sequence

import numpy as np

from lingvo_lite.inputs import order

_SPEED, _NOISE = 11, 12  # streams of random bits, apart from those of order.py
_EPOCHS = 1 << 40  # ids are below


def Speed(speeds: Sequence[float], seed: int, epoch: int, index: int) -> fractions.Fraction:
    """One of `speeds`, all equally likely; 1.1 is faster and shorter.

    Tom Ko et al., "Audio augmentation for speech recognition", Interspeech 2015.
    """
    if len(speeds) == 1:
        return AsFraction(speeds[0])
    bits = int(order.Bits(1, seed, _SPEED, epoch * _EPOCHS + index)[0])
    return AsFraction(speeds[(bits >> 32) * len(speeds) >> 32])


def AsFraction(speed: float) -> fractions.Fraction:
    """The nearest hundredth or simpler fraction: resampling needs a ratio of small integers."""
    return fractions.Fraction(speed).limit_denominator(100)


def AddNoise(
    waveform: np.ndarray, decibels: Sequence[float], seed: int, epoch: int, index: int
) -> np.ndarray:
    """Adds white noise whose signal-to-noise ratio is drawn evenly from a range.

    Args:
      waveform: [samples] float32 in [-1, 1]. Silence stays silence.
      decibels: lowest and highest ratio of the signal's power to that of the noise.
      seed, epoch, index: what the draw depends on.

    Returns:
      [samples] float32 in [-1, 1].
    """
    count = len(waveform)
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if count else 0.0
    if not power:
        return waveform
    bits = order.Bits(1 + -(-count // 4), seed, _NOISE, epoch * _EPOCHS + index)
    low, high = decibels
    ratio = low + (high - low) * (int(bits[0]) >> 11) / 2**53
    # Four 16-bit integers of each draw, evenly distributed in [-1, 1): their power is 1/3.
    noise = bits[1:].view(np.int16)[:count].astype(np.float32) / 32768
    scale = np.sqrt(3 * power * 10 ** (-ratio / 10))
    return np.clip(waveform + noise * np.float32(scale), -1.0, 1.0)
