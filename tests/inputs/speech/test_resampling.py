"""How well the rate is changed."""

import fractions
import math

import numpy as np
import pytest

from lingvo_lite.inputs.speech import resampling


def Sine(hertz, rate, seconds, level=0.5):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


RATES = [
    (8000, 16000),
    (16000, 8000),
    (44100, 16000),
    (22050, 16000),
    (14400, 16000),
    (17600, 16000),
    (11127, 16000),  # large numbers: the other way of computing
]


@pytest.mark.parametrize(('before', 'after'), RATES)
def test_a_sine_stays_itself_at_another_rate(before, after):
    ratio = fractions.Fraction(after, before)
    for hertz in (50, 0.42 * min(before, after)):
        signal = Sine(hertz, before, 0.5).astype(np.float32)
        found = resampling.Resample(signal, ratio)
        assert found.dtype == np.float32
        assert (
            len(found)
            == math.ceil(len(signal) * ratio)
            == resampling.NumSamples(len(signal), ratio)
        )
        wanted = Sine(hertz, after, 1)[: len(found)]
        inner = slice(after // 20, -after // 20)  # no signal is known beyond the ends
        np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-5)


@pytest.mark.parametrize(('before', 'after'), [pair for pair in RATES if pair[1] < pair[0]])
def test_what_the_new_rate_cannot_hold_is_gone(before, after):
    ratio = fractions.Fraction(after, before)
    above = Sine(min(0.53 * after, 0.499 * before), before, 0.5).astype(np.float32)
    found = resampling.Resample(above, ratio)[after // 20 : -after // 20]
    assert 20 * np.log10(np.abs(found).max() / 0.5) < -100


def test_both_ways_of_resampling_agree(monkeypatch):
    noise = np.random.RandomState(0).uniform(-1, 1, 3001).astype(np.float32)
    for ratio in (fractions.Fraction(160, 441), fractions.Fraction(10, 9), fractions.Fraction(2)):
        monkeypatch.undo()
        fast = resampling.Resample(noise, ratio)
        monkeypatch.setattr(resampling, '_MOST_CELLS', 0)
        np.testing.assert_allclose(resampling.Resample(noise, ratio), fast, atol=2e-6)


def test_ends_of_resampling():
    half = fractions.Fraction(1, 2)
    noise = np.random.RandomState(0).uniform(-1, 1, 10).astype(np.float32)
    assert resampling.Resample(noise, fractions.Fraction(1)) is noise
    assert len(resampling.Resample(noise[:0], half)) == 0
    for count in (1, 2, 3):
        assert len(resampling.Resample(noise[:count], half)) == (count + 1) // 2
    with pytest.raises(ValueError, match='must be positive, got -1/2'):
        resampling.Resample(noise, -half)
