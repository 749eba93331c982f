"""Features of audio, against librosa. Padding, company and low precision: test_conformance.py."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers.speech import frontend, mel

_RNG = np.random.default_rng(0)
_RATE, _WINDOW, _HOP, _FFT = 16000, 400, 160, 512


def _Speech(count=4000):
    """A chirp with noise, at the loudness of speech."""
    t = np.arange(count) / _RATE
    sound = 0.2 * np.sin(2 * np.pi * (300 + 2000 * t) * t) * np.sin(2 * np.pi * 4 * t)
    return (sound + 0.01 * _RNG.normal(size=count)).astype(np.float32)


def _Run(cls, waveforms, **kwargs):
    layer = cls.Params().Set(**kwargs).Instantiate()
    longest = max(1, max(len(w) for w in waveforms))
    batch = np.stack([np.pad(w, (0, longest - len(w)), constant_values=0.5) for w in waveforms])
    x, paddings = layer(tf.constant(batch), tf.constant([len(w) for w in waveforms]))
    return x.numpy(), paddings.numpy()


def _Power(waveform, preemph=0.97, fft=_FFT, window=_WINDOW):
    """|STFT|^2 by librosa, [frames, fft / 2 + 1]."""
    x = librosa.effects.preemphasis(waveform, coef=preemph, zi=[0.0])
    frames = -(-len(x) // _HOP)
    # librosa centres a window in the transform.
    side = (fft - window) // 2
    x = np.pad(x, (side, (frames - 1) * _HOP + fft - side - len(x)))
    spectrum = librosa.stft(
        x, n_fft=fft, hop_length=_HOP, win_length=window, window='hann', center=False
    )
    return np.abs(spectrum.T) ** 2


def _Mels(power, scale='htk'):
    htk = scale == 'htk'
    bands = librosa.filters.mel(
        sr=_RATE, n_fft=_FFT, n_mels=80, fmin=125, fmax=7600, htk=htk, norm=None if htk else scale
    )
    return np.log(np.maximum(power @ bands.T, 1e-10))


@pytest.mark.parametrize('scale', ['htk', 'slaney'])
def test_log_mel(inference_step, scale):
    waveform = _Speech()
    x, paddings = _Run(frontend.MelAsrFrontend, [waveform], mel_scale=scale)
    np.testing.assert_allclose(x[0], _Mels(_Power(waveform), scale), atol=1e-3)
    assert paddings.shape == (1, 25) and not paddings.any()


def test_spectrogram_of_deep_speech(inference_step):
    waveform = _Speech()
    settings = {'frame_size_ms': 20.0, 'fft_size': 320, 'num_bins': 96, 'preemph': 0.0}
    x, _ = _Run(frontend.SpectrogramFrontend, [waveform], **settings)
    wanted = _Power(waveform, preemph=0.0, fft=320, window=320)[:, :96]
    np.testing.assert_allclose(x[0], np.log(np.maximum(wanted, 1e-10)), atol=1e-3)


def test_mfcc(inference_step):
    waveform = _Speech()
    x, _ = _Run(frontend.MfccFrontend, [waveform], num_cepstra=20)
    wanted = librosa.feature.mfcc(S=_Mels(_Power(waveform)).T, n_mfcc=20, norm='ortho').T
    np.testing.assert_allclose(x[0], wanted, atol=1e-3)


def test_mel_bands_are_those_of_librosa():
    for scale, norm in (('htk', None), ('slaney', 'slaney')):
        wanted = librosa.filters.mel(
            sr=8000, n_fft=256, n_mels=20, fmin=0, fmax=4000, htk=scale == 'htk', norm=norm
        )
        found = mel.mel_matrix(20, 256, 8000, 0, 4000, scale)
        np.testing.assert_allclose(found.T, wanted, atol=1e-6)


@pytest.mark.parametrize('count, frames', [(1, 1), (160, 1), (161, 2), (400, 3), (0, 0)])
def test_number_of_frames(inference_step, count, frames):
    _, paddings = _Run(frontend.MelAsrFrontend, [_Speech(count), _Speech(500)])
    np.testing.assert_array_equal((1 - paddings).sum(axis=1), [frames, 4])


def test_a_batch_without_a_sample(inference_step):
    layer = frontend.MelAsrFrontend.Params().Instantiate()
    for size in (0, 1, 7):
        x, paddings = layer(tf.zeros([2, size]), tf.zeros([2], tf.int32))
        assert x.shape == [2, 1, 80] and np.all(paddings == 1) and np.all(x == 0)


@pytest.mark.parametrize('method', ['per_utterance', 'per_feature'])
def test_normalization_is_over_each_utterance_without_its_padding(inference_step, method):
    waveforms = [_Speech(1500), _Speech(4000)]
    x, paddings = _Run(frontend.MelAsrFrontend, waveforms, normalization=method)
    axis = 0 if method == 'per_feature' else None
    for i, waveform in enumerate(waveforms):
        plain = _Mels(_Power(waveform))
        wanted = (plain - plain.mean(axis=axis)) / plain.std(axis=axis)
        np.testing.assert_allclose(x[i, : len(wanted)], wanted, atol=2e-3)
        assert not x[i, len(wanted) :].any()


def test_global_normalization(inference_step):
    waveform = _Speech()
    mean, stddev = np.linspace(-5, 5, 80), np.linspace(1, 3, 80)
    settings = {'per_bin_mean': tuple(mean), 'per_bin_stddev': tuple(stddev)}
    x, _ = _Run(frontend.MelAsrFrontend, [waveform], normalization='global', **settings)
    np.testing.assert_allclose(x[0], (_Mels(_Power(waveform)) - mean) / stddev, atol=1e-3)


@pytest.mark.parametrize('method', ['none', 'per_utterance', 'per_feature'])
@pytest.mark.parametrize('waveform', [np.zeros(900), np.full(900, 0.5), np.ones(1)])
def test_silence_a_constant_and_one_sample_are_finite(inference_step, method, waveform):
    x, _ = _Run(
        frontend.MelAsrFrontend, [waveform.astype(np.float32)], normalization=method, preemph=0.0
    )
    assert np.isfinite(x).all()
    if not waveform.any() and method != 'none':
        np.testing.assert_allclose(x, 0, atol=1e-4)


def test_stacking():
    # [1, 5, 1]: the frames 1 2 3 4, and one of padding
    x = tf.constant([[[1.0], [2], [3], [4], [0]]])
    y, paddings = frontend.stack(x, tf.constant([[0.0, 0, 0, 0, 1]]), 3, 2)
    np.testing.assert_array_equal(y, [[[1, 2, 3], [3, 4, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(paddings, [[0, 0, 1]])


def test_output_dim():
    p = frontend.MelAsrFrontend.Params().Set(num_bins=40, stack_size=3, frame_stride=3)
    assert p.Instantiate().output_dim == 120


def test_dither_is_noise_of_its_level_in_training_only(training_step):
    settings = {'dither': 0.01, 'preemph': 0.0, 'window': 'none', 'num_bins': 257}
    x, _ = _Run(frontend.SpectrogramFrontend, [np.zeros(40000, np.float32)], **settings)
    power = np.exp(x[0, :-3]).mean()
    assert abs(power / (0.01**2 * _WINDOW) - 1) < 0.05


def test_it_is_float32_under_any_policy(inference_step):
    waveform = _Speech()
    x, _ = _Run(frontend.MelAsrFrontend, [waveform], fprop_dtype=tf.float16)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[0], _Mels(_Power(waveform)), atol=1e-3)


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'sample_rate': 8000.0}, 'must be at most 4000.0 .half of sample_rate=8000.0'),
        ({'num_bins': 400}, 'is so narrow that no frequency of a transform of 512 samples'),
        ({'fft_size': 256}, 'fft_size=256 must hold a window, which has 400 samples'),
        ({'frame_stride': 2}, 'frame_stride=2 must be at most stack_size=1'),
        ({'normalization': 'global'}, 'per_bin_mean has 0 values, but normalization=global takes'),
        ({'lower_edge_hertz': 8000.0}, 'lower_edge_hertz=8000.0 must be at least 0 and below'),
        ({'frame_step_ms': 0.01}, 'frame_step_ms=0.01 is no sample at 16000.0 Hz'),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(hyperparams.ConfigError, match=message):
        frontend.MelAsrFrontend.Params().Set(**settings).Instantiate()
