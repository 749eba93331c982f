"""The mel scale: bands of frequencies as wide as the ear hears them. NumPy only."""

from __future__ import annotations

import math
from typing import Union

import numpy as np


def mel_matrix(
    num_bins: int, fft_size: int, sample_rate: float, lower: float, upper: float, scale: str
) -> np.ndarray:
    """What a spectrum is multiplied with to get its bands: float64 [fft_size / 2 + 1, num_bins].

    Band i is a triangle over frequency, from edge i by edge i + 1 to edge i + 2 of num_bins + 2
    edges that are even on the mel scale.

    Args:
      num_bins: number of bands.
      fft_size: of the transform.
      sample_rate: in hertz.
      lower, upper: the outermost edges, in hertz.
      scale: 'htk': 2595 log10(1 + f / 700) mel, triangles of height 1. 'slaney': linear below
        1000 hertz and logarithmic above, triangles of area 1 (Slaney, Auditory Toolbox, 1998).
    """
    to_mel, to_hertz = _SCALES[scale]
    edges = to_hertz(np.linspace(to_mel(lower), to_mel(upper), num_bins + 2))
    frequencies = np.arange(fft_size // 2 + 1)[:, np.newaxis] * (sample_rate / fft_size)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies - left) / (centre - left)
    falling = (right - frequencies) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles * 2.0 / (right - left) if scale == 'slaney' else triangles


def cosine_matrix(num_bins: int, num_cepstra: int) -> np.ndarray:
    """The orthonormal DCT-II: float64 [num_bins, num_cepstra]."""
    angles = np.outer(np.arange(num_bins) + 0.5, np.arange(num_cepstra)) * (math.pi / num_bins)
    matrix = np.cos(angles) * math.sqrt(2.0 / num_bins)
    matrix[:, 0] *= math.sqrt(0.5)
    return matrix


def _HtkMel(hertz: Union[float, np.ndarray]) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)


def _HtkHertz(mel: Union[float, np.ndarray]) -> np.ndarray:
    return 700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0)


# 3 mel are 200 hertz below 1000 hertz; above, 27 mel are a factor of 6.4.
_KNEE, _LOG_STEP = 15.0, math.log(6.4) / 27.0


def _SlaneyMel(hertz: Union[float, np.ndarray]) -> np.ndarray:
    hertz = np.asarray(hertz, np.float64)
    above = _KNEE + np.log(np.maximum(hertz, 1000.0) / 1000.0) / _LOG_STEP
    return np.where(hertz < 1000.0, hertz * 0.015, above)


def _SlaneyHertz(mel: Union[float, np.ndarray]) -> np.ndarray:
    mel = np.asarray(mel, np.float64)
    above = 1000.0 * np.exp(_LOG_STEP * (np.maximum(mel, _KNEE) - _KNEE))
    return np.where(mel < _KNEE, mel / 0.015, above)


_SCALES = {'htk': (_HtkMel, _HtkHertz), 'slaney': (_SlaneyMel, _SlaneyHertz)}
