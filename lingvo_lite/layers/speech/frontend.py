"""Features of audio: log spectrogram, log-mel, MFCC. All in float32, whatever the policy.

Frame i of a waveform with n samples begins at sample i * step and reaches over one window; there
are ceil(n / step) of them, and what lies behind the last sample is zeros. So the features of an
utterance do not depend on the padding behind it. Features at padding are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import Self
from lingvo_lite.layers import base
from lingvo_lite.layers.conv import zero_at_padding
from lingvo_lite.layers.speech import mel

_WINDOWS = {
    'hann': tf.signal.hann_window,
    'hamming': tf.signal.hamming_window,
    'none': lambda size: tf.ones([size]),
}
# In nats, below that of any speech: silence gives zeros, and its rounding errors stay small.
_LEAST_DEVIATION = 0.25


class _Frontend(base.BaseLayer):
    """Waveform -> pre-emphasis -> windows -> power spectrum -> features -> normalized, stacked."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('sample_rate', 16000.0, 'Of the waveform, in hertz.')
        p.Define('frame_size_ms', 25.0, 'Length of a window, in milliseconds.')
        p.Define('frame_step_ms', 10.0, 'From one window to the next, in milliseconds.')
        p.Define('preemph', 0.97, 'a of the filter y_t = x_t - a x_{t-1}; 0 for none.')
        p.Define('dither', 0.0, 'Deviation of the white noise added to the waveform in training.')
        p.Define('window', 'hann', 'Form of the window.', choices=sorted(_WINDOWS))
        p.Define(
            'fft_size',
            None,
            'Samples of a Fourier transform; None for the least power of 2 that holds a window.',
            type=int,
        )
        p.Define('log_floor', 1e-10, 'Powers below it count as it, before the logarithm.')
        p.Define(
            'normalization',
            'none',
            'per_utterance: mean 0 and deviation 1 over all features of an utterance. per_feature: '
            'the same, each feature for itself. global: by per_bin_mean and per_bin_stddev.',
            choices=['none', 'per_utterance', 'per_feature', 'global'],
        )
        p.Define('per_bin_mean', (), 'Of each feature over the data, for global normalization.')
        p.Define('per_bin_stddev', (), 'As per_bin_mean.')
        p.Define('stack_size', 1, 'How many frames make one of the output, side by side.')
        p.Define('frame_stride', 1, 'Frames from one of the output to the next.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.RequireRange(
            p, 'sample_rate', 'frame_size_ms', 'frame_step_ms', 'log_floor', above=0
        )
        hyperparams.RequireRange(p, 'stack_size', 'frame_stride', at_least=1)
        if samples(p.sample_rate, p.frame_step_ms) < 1:
            what = f'frame_step_ms={p.frame_step_ms} is no sample at {p.sample_rate} Hz.'
            raise hyperparams.Fail(p, what, 'frame_step_ms')
        size = samples(p.sample_rate, p.frame_size_ms)
        if size < 1 or _FftSize(p) < size:
            what = f'fft_size={p.fft_size} must hold a window, which has {size} samples.'
            raise hyperparams.Fail(p, what, 'fft_size')
        hyperparams.Require(
            p,
            p.frame_stride <= p.stack_size,
            'frame_stride',
            f'at most stack_size={p.stack_size} (frames would drop)',
        )
        for key in ('per_bin_mean', 'per_bin_stddev'):
            wanted = cls._NumFeatures(p) if p.normalization == 'global' else 0
            if len(p.Get(key)) != wanted:
                what = (
                    f'{key} has {len(p.Get(key))} values, but normalization={p.normalization} '
                    f'takes {wanted}.'
                )
                raise hyperparams.Fail(p, what, key)
        hyperparams.RequireRange(p, 'per_bin_stddev', above=0)

    @property
    def output_dim(self) -> int:
        """Size of a frame of the output."""
        return int(self._NumFeatures(self.params) * self.params.stack_size)

    @property
    def step_s(self) -> float:
        """Seconds from one frame of the output to the next."""
        p = self.params
        return float(samples(p.sample_rate, p.frame_step_ms) / p.sample_rate * p.frame_stride)

    def FProp(self, waveform: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The features.

        Args:
          waveform: [batch, samples], in [-1, 1].
          num_samples: int32 [batch], how many of them count.

        Returns:
          float32 [batch, frames, output_dim], and paddings [batch, frames]. Where no example has a
          sample, there is one frame of padding.
        """
        p = self.params
        power, paddings = self._Power(tf.cast(waveform, tf.float32), num_samples)
        x = normalize(
            self._Features(power), paddings, p.normalization, p.per_bin_mean, p.per_bin_stddev
        )
        return stack(x, paddings, p.stack_size, p.frame_stride)

    @classmethod
    def _NumFeatures(cls, p: hyperparams.Params) -> int:
        """Features of a frame before stacking."""
        raise NotImplementedError

    def _Features(self, power: tf.Tensor) -> tf.Tensor:
        """power: [batch, frames, fft_size / 2 + 1] -> [batch, frames, features]."""
        raise NotImplementedError

    def _Power(self, x: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """[batch, samples] -> |STFT|^2 [batch, frames, fft_size / 2 + 1], and paddings."""
        p = self.params
        # A batch without any sample has one frame of padding: no axis is of size 0.
        x = tf.cond(tf.shape(x)[1] > 0, lambda: x, lambda: tf.pad(x, [[0, 0], [0, 1]]))
        count = tf.shape(x)[1]
        if p.dither and step.Current().training:
            seed = step.ActivationSeed(self.path)
            x += p.dither * tf.random.stateless_normal(tf.shape(x), seed)
        outside = 1.0 - tf.sequence_mask(num_samples, count, tf.float32)
        x = zero_at_padding(x, outside)
        if p.preemph:
            x = zero_at_padding(x - p.preemph * tf.pad(x, [[0, 0], [1, 0]])[:, :-1], outside)
        size = samples(p.sample_rate, p.frame_size_ms)
        hop = samples(p.sample_rate, p.frame_step_ms)
        frames = -(-count // hop)
        x = tf.pad(x, [[0, 0], [0, (frames - 1) * hop + size]])
        x = tf.signal.frame(x, size, hop)[:, :frames] * _WINDOWS[p.window](size)
        spectrum = tf.signal.rfft(x, [_FftSize(p)])
        paddings = 1.0 - tf.sequence_mask(-(-num_samples // hop), frames, tf.float32)
        return tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)), paddings

    def _Log(self, power: tf.Tensor) -> tf.Tensor:
        return tf.math.log(tf.maximum(power, self.params.log_floor))


class SpectrogramFrontend(_Frontend):
    """The logarithm of the first num_bins powers of the spectrum."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('num_bins', 160, 'How many powers, from that of 0 hertz.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        most = _FftSize(p) // 2 + 1
        hyperparams.RequireRange(
            p, 'num_bins', at_least=1, at_most=most, note='that is fft_size / 2 + 1'
        )

    @classmethod
    def _NumFeatures(cls, p: hyperparams.Params) -> int:
        return int(p.num_bins)

    def _Features(self, power: tf.Tensor) -> tf.Tensor:
        return self._Log(power[:, :, : self.params.num_bins])


class MelAsrFrontend(_Frontend):
    """The logarithm of the powers in num_bins bands that are even on the mel scale."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('num_bins', 80, 'Number of bands.')
        p.Define('lower_edge_hertz', 125.0, 'Where the first band begins.')
        p.Define('upper_edge_hertz', 7600.0, 'Where the last band ends.')
        p.Define(
            'mel_scale',
            'htk',
            'htk: bands of height 1, 2595 log10(1 + f / 700) mel. slaney: bands of area 1, linear '
            'below 1000 hertz, as librosa has them.',
            choices=['htk', 'slaney'],
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.RequireRange(p, 'num_bins', at_least=1)
        half = p.sample_rate / 2
        hyperparams.RequireRange(
            p, 'upper_edge_hertz', at_most=half, note=f'half of sample_rate={p.sample_rate}'
        )
        hyperparams.Require(
            p,
            0 <= p.lower_edge_hertz < p.upper_edge_hertz,
            'lower_edge_hertz',
            f'at least 0 and below upper_edge_hertz={p.upper_edge_hertz}',
        )
        empty = np.flatnonzero(_MelMatrix(p).sum(axis=0) == 0)
        if empty.size:
            raise hyperparams.Fail(
                p,
                f'num_bins={p.num_bins}: band {empty[0]} is so narrow that no frequency of a '
                f'transform of {_FftSize(p)} samples lies in it. Take fewer bands, or set '
                f'fft_size={2 * _FftSize(p)}.',
                'num_bins',
            )

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._matrix = _MelMatrix(self.params).astype(np.float32)

    @classmethod
    def _NumFeatures(cls, p: hyperparams.Params) -> int:
        return int(p.num_bins)

    def _Features(self, power: tf.Tensor) -> tf.Tensor:
        # [batch, frames, fft_size / 2 + 1] x [fft_size / 2 + 1, bins]
        return self._Log(tf.tensordot(power, self._matrix, axes=1))


class MfccFrontend(MelAsrFrontend):
    """Mel-frequency cepstral coefficients: the cosine transform (DCT-II) of log-mel."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('num_cepstra', 13, 'How many coefficients, from the 0th.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.Require(
            p,
            1 <= p.num_cepstra <= p.num_bins,
            'num_cepstra',
            f'at least 1 and at most num_bins={p.num_bins}',
        )

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self._cosines = mel.cosine_matrix(p.num_bins, p.num_cepstra).astype(np.float32)

    @classmethod
    def _NumFeatures(cls, p: hyperparams.Params) -> int:
        return int(p.num_cepstra)

    def _Features(self, power: tf.Tensor) -> tf.Tensor:
        return tf.tensordot(super()._Features(power), self._cosines, axes=1)


def samples(sample_rate: float, milliseconds: float) -> int:
    """How many samples there are in a time."""
    return round(sample_rate * milliseconds / 1000)


def normalize(
    x: tf.Tensor,
    paddings: tf.Tensor,
    method: str,
    mean: Sequence[float] = (),
    stddev: Sequence[float] = (),
) -> tf.Tensor:
    """(x - mean) / deviation; zeros at padding.

    A deviation below 0.25 counts as 0.25, so that silence gives zeros.

    Args:
      x: float32 [batch, frames, features].
      paddings: [batch, frames].
      method: as the param `normalization` of the front ends.
      mean, stddev: [features], for 'global'.
    """
    x = zero_at_padding(x, paddings)
    if method == 'none':
        return x
    if method == 'global':
        y = (x - tf.constant(mean, tf.float32)) / tf.constant(stddev, tf.float32)
        return zero_at_padding(y, paddings)
    axes = [1] if method == 'per_feature' else [1, 2]
    count = tf.reduce_sum(1.0 - paddings, axis=1)[:, tf.newaxis, tf.newaxis]
    if method == 'per_utterance':
        count *= x.shape[2]
    average = tf.math.divide_no_nan(tf.reduce_sum(x, axis=axes, keepdims=True), count)
    centered = zero_at_padding(x - average, paddings)
    squares = tf.reduce_sum(tf.square(centered), axis=axes, keepdims=True)
    variance = tf.math.divide_no_nan(squares, count)
    return centered * tf.math.rsqrt(tf.maximum(variance, _LEAST_DEVIATION**2))


def stack(x: tf.Tensor, paddings: tf.Tensor, size: int, stride: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Several frames side by side: y_i = [x_{i stride}, ..., x_{i stride + size - 1}].

    With size 3 and stride 2:  a b c d e  ->  abc cde e--  (- is zeros).

    Args:
      x: [batch, frames, features], zeros at padding.
      paddings: [batch, frames].
      size, stride: in frames.

    Returns:
      [batch, ceil(frames / stride), size * features], and its paddings.
    """
    if size == 1 and stride == 1:
        return x, paddings
    frames = tf.shape(x)[1]
    x = tf.pad(x, [[0, 0], [0, size - 1], [0, 0]])
    y = tf.concat([x[:, i : i + frames : stride] for i in range(size)], axis=2)
    paddings = paddings[:, ::stride]
    return zero_at_padding(y, paddings), paddings


def _FftSize(p: hyperparams.Params) -> int:
    if p.fft_size is not None:
        return int(p.fft_size)
    return 1 << max(0, samples(p.sample_rate, p.frame_size_ms) - 1).bit_length()


def _MelMatrix(p: hyperparams.Params) -> np.ndarray:
    return mel.mel_matrix(
        p.num_bins,
        _FftSize(p),
        p.sample_rate,
        p.lower_edge_hertz,
        p.upper_edge_hertz,
        p.mel_scale,
    )
