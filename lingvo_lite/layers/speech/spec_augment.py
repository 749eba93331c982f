"""SpecAugment: masks and warps on features of audio (Park et al., arXiv 1904.08779).

The adaptive number and size of time masks: Park et al., arXiv 1912.05533, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import Self
from lingvo_lite.layers import base


class SpectrumAugmenter(base.BaseLayer):
    """Training, warps time, then sets bands of frequencies and stretches of time to 0.

    Each example has its own draws. Masks may overlap. 0 is the mean of normalized features.

    x: [batch, time, features] -> y: the same. Not training, y = x.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('freq_mask_count', 0, 'Number of bands.')
        p.Define('freq_mask_max_bins', 27, 'Width of a band: uniform in 0 .. this.')
        p.Define('time_mask_count', 0, 'Number of stretches, at most.')
        p.Define('time_mask_max_frames', 100, 'Length of a stretch: uniform in 0 .. this.')
        p.Define(
            'time_mask_max_ratio',
            1.0,
            'A stretch is no longer than this share of the utterance, in (0, 1].',
        )
        p.Define(
            'time_masks_per_frame',
            0.0,
            'If above 0, there are floor(this * frames) stretches, or time_mask_count if that is '
            'less.',
        )
        p.Define(
            'time_warp_max_frames',
            0,
            'W: a frame that is more than W from both ends moves by up to W; 0 for no warp.',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(
            p,
            'freq_mask_count',
            'freq_mask_max_bins',
            'time_mask_count',
            'time_mask_max_frames',
            'time_masks_per_frame',
            'time_warp_max_frames',
            at_least=0,
        )
        hyperparams.RequireRange(p, 'time_mask_max_ratio', above=0, at_most=1)

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """paddings: [batch, time]."""
        p = self.params
        if not step.Current().training:
            return x
        frames = tf.reduce_sum(tf.cast(paddings < 0.5, tf.int32), axis=1)
        if p.time_warp_max_frames:
            x = warp(x, *self._Warp(frames))
        # [batch, time, 1] and [batch, 1, features]
        masked = tf.zeros([1, 1, 1], tf.bool)
        if p.time_mask_count:
            masked |= self._TimeMasks(frames, tf.shape(x)[1])[:, :, tf.newaxis]
        if p.freq_mask_count:
            masked |= self._FrequencyMasks(tf.shape(x)[0], tf.shape(x)[2])[:, tf.newaxis]
        return tf.where(masked, tf.zeros([], x.dtype), x)

    def _Warp(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """frames: int32 [batch] -> the frame that moves, where to, and the last: [batch]."""
        last = tf.maximum(frames - 1, 0)
        # Neither end may be reached: 0 < start - most, start + most < last.
        most = tf.clip_by_value(last // 2 - 1, 0, self.params.time_warp_max_frames)
        u = self._Uniform([tf.shape(frames)[0], 2])
        start = most + 1 + uniform_int(u[:, 0], tf.maximum(last - 2 * most - 2, 0))
        start = tf.minimum(start, last)
        return start, start - most + uniform_int(u[:, 1], 2 * most), last

    def _TimeMasks(self, frames: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
        """frames: int32 [batch] -> bool [batch, time]."""
        p = self.params
        ratio = tf.cast(tf.cast(frames, tf.float32) * p.time_mask_max_ratio, tf.int32)
        longest = tf.minimum(p.time_mask_max_frames, ratio)
        count = tf.fill(tf.shape(frames), p.time_mask_count)
        if p.time_masks_per_frame:
            adaptive = tf.cast(tf.cast(frames, tf.float32) * p.time_masks_per_frame, tf.int32)
            count = tf.minimum(count, adaptive)
        u = self._Uniform([tf.shape(frames)[0], p.time_mask_count, 2])
        return masks(u, longest, frames, time, count)

    def _FrequencyMasks(self, batch: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """bool [batch, features]."""
        p = self.params
        widest = tf.minimum(p.freq_mask_max_bins, features)
        u = self._Uniform([batch, p.freq_mask_count, 2])
        everywhere = tf.fill([batch], features)
        count = tf.fill([batch], p.freq_mask_count)
        return masks(u, tf.fill([batch], widest), everywhere, features, count)

    def _Uniform(self, shape: Sequence[Union[int, tf.Tensor]]) -> tf.Tensor:
        """Draws from [0, 1)."""
        return tf.random.stateless_uniform(shape, step.ActivationSeed(self.path))


def masks(
    u: tf.Tensor, longest: tf.Tensor, size: tf.Tensor, axis: tf.Tensor, count: tf.Tensor
) -> tf.Tensor:
    """Where at least one of several masks lies.

    A mask's length is uniform in 0 .. longest, its start in 0 .. size - length.

    Args:
      u: float32 [batch, masks, 2], in [0, 1): the draws of length and start.
      longest: int32 [batch], at most `size`.
      size: int32 [batch], how far masks may reach.
      axis: int32 [], length of the result.
      count: int32 [batch], how many of the masks count.

    Returns:
      bool [batch, axis].
    """
    # [batch, masks]
    length = uniform_int(u[:, :, 0], longest[:, tf.newaxis])
    start = uniform_int(u[:, :, 1], size[:, tf.newaxis] - length)
    on = tf.sequence_mask(count, tf.shape(u)[1])
    # [batch, masks, axis]
    places = tf.range(axis)
    inside = (places >= start[:, :, tf.newaxis]) & (places < (start + length)[:, :, tf.newaxis])
    return tf.reduce_any(inside & on[:, :, tf.newaxis], axis=1)


def warp(x: tf.Tensor, start: tf.Tensor, end: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Moves frame `start` to `end`; those on either side are stretched or squeezed evenly.

    The first frame, the last and what stands behind it stay. Between frames, x is linear.

    Args:
      x: [batch, time, features].
      start, end, last: int32 [batch], in 0 <= start, end <= last.
    """
    start, end, last = (tf.cast(i, tf.float32)[:, tf.newaxis] for i in (start, end, last))
    times = tf.range(tf.shape(x)[1])
    t = tf.cast(times, tf.float32)[tf.newaxis]
    before = t * tf.math.divide_no_nan(start, end)
    behind = last - (last - t) * tf.math.divide_no_nan(last - start, last - end)
    # [batch, time]: where each frame of the result comes from
    source = tf.where(t > last, t, tf.where(t < end, before, behind))
    low = tf.clip_by_value(tf.cast(tf.floor(source), tf.int32), 0, tf.shape(x)[1] - 1)
    high = tf.minimum(low + 1, tf.shape(x)[1] - 1)
    share = tf.cast(source - tf.cast(low, tf.float32), x.dtype)[:, :, tf.newaxis]
    a, b = tf.gather(x, low, batch_dims=1), tf.gather(x, high, batch_dims=1)
    return tf.where(share > 0, a + share * (b - a), a)


def uniform_int(u: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
    """Whole numbers in 0 .. most, for u uniform in [0, 1): int32."""
    count = tf.cast(most + 1, tf.float32)
    return tf.minimum(tf.cast(u * count, tf.int32), most)
