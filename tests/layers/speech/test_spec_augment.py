"""SpecAugment. Padding, company and seeds: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers.speech import spec_augment


def _Run(x, frames, **kwargs):
    layer = spec_augment.SpectrumAugmenter.Params().Set(**kwargs).Instantiate()
    paddings = 1.0 - tf.sequence_mask(frames, x.shape[1], tf.float32)
    return layer(tf.constant(x), paddings).numpy()


def _Widths(masked):
    """Lengths of the runs of True in each row."""
    runs = []
    for row in masked:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        runs.append(list(edges[1::2] - edges[::2]))
    return runs


def test_frequency_masks_are_bands_of_all_frames(training_step):
    x = np.ones([300, 4, 20], np.float32)
    masked = _Run(x, [4] * 300, freq_mask_count=1, freq_mask_max_bins=6) == 0
    assert np.all(masked == masked[:, :1])
    runs = _Widths(masked[:, 0])
    assert all(len(run) <= 1 for run in runs)
    assert {sum(run) for run in runs} == set(range(7))
    assert masked[:, 0].any(axis=0).all(), 'every bin can be masked'


def test_time_masks_stay_within_the_utterance(training_step):
    frames = [30] * 200 + [5] * 200
    x = np.ones([400, 30, 2], np.float32)
    y = _Run(x, frames, time_mask_count=1, time_mask_max_frames=10, time_mask_max_ratio=0.4)
    masked = y == 0
    assert np.all(masked == masked[:, :, :1]) and not masked[200:, 5:].any()
    widths = [sum(run) for run in _Widths(masked[:, :, 0])]
    assert set(widths[:200]) == set(range(11)) and set(widths[200:]) == {0, 1, 2}


def test_number_of_masks_is_adaptive(training_step):
    x = np.ones([3, 4000, 1], np.float32)
    settings = {'time_mask_count': 5, 'time_mask_max_frames': 9, 'time_masks_per_frame': 0.002}
    runs = _Widths(_Run(x, [4000, 1000, 400], **settings)[:, :, 0] == 0)
    most = [5, 2, 0]
    assert all(len(run) <= n for run, n in zip(runs, most)) and len(runs[0]) > 2


def test_several_masks(training_step):
    x = np.ones([200, 2, 400], np.float32)
    runs = _Widths(_Run(x, [2] * 200, freq_mask_count=3, freq_mask_max_bins=4)[:, 0] == 0)
    assert max(map(len, runs)) == 3


def test_examples_and_steps_have_their_own_draws():
    x = np.ones([2, 50, 50], np.float32)

    def Draw(number):
        with step.Context(training=True, step=number):
            y = _Run(x, [50, 50], freq_mask_count=2, time_mask_count=2, time_mask_max_frames=20)
            return [row.tobytes() for row in y]

    assert Draw(1) == Draw(1) and len({*Draw(1), *Draw(2)}) == 4


def test_warp_is_linear_on_both_sides():
    # Frame 2 moves to 4, of 0 .. 6; frame 7 is padding.
    x = tf.constant(np.arange(8, dtype=np.float32)[np.newaxis, :, np.newaxis])
    y = spec_augment.warp(x, tf.constant([2]), tf.constant([4]), tf.constant([6]))
    np.testing.assert_allclose(y[0, :, 0], [0, 0.5, 1, 1.5, 2, 4, 6, 7])


def test_warp_in_training_keeps_order_and_ends(training_step):
    frames = [40, 7, 4, 3, 2, 1, 0] * 30
    x = np.tile(np.arange(40, dtype=np.float32)[:, np.newaxis], [len(frames), 1, 1])
    y = _Run(x, frames, time_warp_max_frames=10)[:, :, 0]
    for row, n in zip(y, frames):
        assert np.all(np.diff(row[:n]) >= 0)
        np.testing.assert_array_equal(row[n:], x[0, n:, 0])
        assert n == 0 or (row[0] == 0 and row[n - 1] == n - 1)
    moved = np.abs(y - x[:, :, 0]).max(axis=1)
    assert 8 < moved[::7].max() <= 10 and 1 < moved[1::7].max() <= 2


def test_nothing_when_not_training(inference_step):
    x = tf.ones([1, 4, 4])
    p = spec_augment.SpectrumAugmenter.Params().Set(freq_mask_count=2, time_mask_count=2)
    assert p.Instantiate()(x, tf.zeros([1, 4])) is x


@pytest.mark.parametrize(
    'settings',
    [{'time_mask_max_ratio': 0.0}, {'freq_mask_count': -1}, {'time_warp_max_frames': -1}],
)
def test_settings_that_cannot_be(settings):
    ((key, value),) = settings.items()
    with pytest.raises(hyperparams.ConfigError, match=f'{key}={value} must be'):
        spec_augment.SpectrumAugmenter.Params().Set(**settings).Instantiate()
