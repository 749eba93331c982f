"""Inputs of the small speech corpora: splits, and what lies in the package."""

import os

import numpy as np
import pytest

from lingvo_lite import hyperparams
from lingvo_lite.inputs import data_files
from lingvo_lite.inputs.text import tokenizers
from lingvo_lite.tasks.asr import input as asr_input
from lingvo_lite.tools import make_spoken_digits

DATA = os.environ.get('LINGVO_LITE_DATA', '')
LETTERS = " 'abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('LINGVO_LITE_DATA', DATA)


def Make(cls, **values):
    p = cls.Params().Set(batch_size=16, sample_rate=8000, **values)
    p.tokenizer = tokenizers.CharacterTokenizer.Params().Set(characters=LETTERS)
    return p.Instantiate()


def Needs(folder):
    return pytest.mark.skipif(
        not os.path.isdir(os.path.join(DATA, folder)),
        reason=f'LINGVO_LITE_DATA names no folder with {folder}',
    )


def Manifest(split):
    with open(asr_input.SpokenDigitsInput.Manifest(_Split(split)), encoding='utf-8') as file:
        names, *lines = [line.rstrip('\n').split('\t') for line in file]
    return [dict(zip(names, line)) for line in lines]


def _Split(split):
    return asr_input.SpokenDigitsInput.Params().Set(split=split, batch_size=1)


@pytest.mark.parametrize(
    ('split', 'count', 'manifests'), [('train', 1180, ('train', 'dev')), ('test', 260, ('test',))]
)
def test_spoken_digits_are_those_that_the_tool_draws(split, count, manifests):
    wanted = make_spoken_digits.Draw(split, count)
    rows = sorted((row for name in manifests for row in Manifest(name)), key=lambda row: row['id'])
    assert [row['transcript'] for row in rows] == [' '.join(each.digits) for each in wanted]
    assert [row['voice'] for row in rows] == [each.voice for each in wanted]
    words = [word for row in rows for word in row['transcript'].split()]
    assert set(words) == set(asr_input.DIGITS) == set(make_spoken_digits.DIGITS)
    shares = [words.count(digit) / len(words) for digit in asr_input.DIGITS]
    assert 0.07 < min(shares) and max(shares) < 0.13
    assert {len(row['transcript'].split()) for row in rows} == set(range(1, 8))


def test_no_speaker_is_in_two_splits():
    train, dev, test = (
        {row['voice'].split('+')[1] for row in Manifest(split)}
        for split in ('train', 'dev', 'test')
    )
    assert len(train) >= 8 and dev == set(make_spoken_digits.DEV_SPEAKERS) and len(test) >= 3
    assert not train & dev and not (train | dev) & test


def test_spoken_digits_are_small_and_speech():
    folder = os.path.dirname(asr_input.SpokenDigitsInput.Manifest(_Split('test')))
    sizes = [os.path.getsize(os.path.join(d, n)) for d, _, names in os.walk(folder) for n in names]
    assert sum(sizes) <= 6_000_000 and len(sizes) == 1180 + 260 + 4
    inputs = Make(asr_input.SpokenDigitsInput, split='test')
    for i in range(0, 260, 7):
        waveform = inputs.Waveform(i)
        digits = len(inputs.Strings(i).target.split())
        assert 0.1 < len(waveform) / 8000 / digits < 0.75
        assert np.abs(waveform).max() > 0.9
        loud = np.abs(waveform) > 0.02
        assert loud[:400].any() and loud[-400:].any()  # pauses at the ends are cut
        assert 0.03 < np.sqrt(np.mean(waveform**2)) < 0.5


def test_trimming_and_quantizing():
    wave = np.concatenate([np.zeros(4000), np.full(800, 0.25), np.zeros(4000)]).astype(np.float32)
    cut = make_spoken_digits.Trim(wave, 8000)
    assert 800 + 2 * 230 <= len(cut) <= 800 + 2 * 250
    assert abs(np.abs(cut).max() - 0.95) < 1e-6
    with pytest.raises(ValueError, match='said nothing'):
        make_spoken_digits.Trim(wave[:100], 8000)
    ramp = np.linspace(-1, 1, 999).astype(np.float32)
    stored = make_spoken_digits.Quantize(ramp)
    assert stored.dtype == np.int16 and not (stored % 256).any()
    assert np.abs(stored / 32768 - ramp).max() <= 2 / 256


def test_splits_are_checked():
    with pytest.raises(hyperparams.ConfigError, match='dev'):
        asr_input.FsddInput.Params().Set(split='dev')


def test_a_missing_corpus_is_named(monkeypatch):
    monkeypatch.delenv('LINGVO_LITE_DATA')
    data_files.SetDataDir(None)
    for cls, folder in (
        (asr_input.FsddInput, 'fsdd/recordings'),
        (asr_input.LibrispeechMiniInput, 'librispeech-mini'),
    ):
        with pytest.raises(FileNotFoundError, match=f"No data file '{folder}'.*LINGVO_LITE_DATA"):
            Make(cls)


@Needs('fsdd')
def test_fsdd_has_the_official_split():
    found = {}
    for split, count in (('train', 2700), ('test', 300)):
        inputs = Make(asr_input.FsddInput, split=split)
        assert inputs.NumExamples() == count
        for i in range(count):
            strings = inputs.Strings(i)
            digit, _, number = strings.source.split('_')
            assert (int(number) < 5) == (split == 'test')
            assert strings.target == asr_input.DIGITS[int(digit)]
            found[strings.source] = split
    assert len(found) == 3000
    assert 0.1 < len(inputs.Waveform(0)) / 8000 < 2


@Needs('librispeech-mini')
def test_librispeech_mini():
    counts, seen = {}, set()
    for split in asr_input.LibrispeechMiniInput.splits:
        inputs = Make(asr_input.LibrispeechMiniInput, split=split)
        counts[split] = inputs.NumExamples()
        names = {inputs.Strings(i).source for i in range(counts[split])}
        assert len(names) == counts[split] and not names & seen
        seen |= names
        assert set(inputs.Strings(0).target) <= set(LETTERS)
    assert counts == {'train': 283, 'dev': 27, 'test': 38, 'test_other': 100}
    few = Make(asr_input.LibrispeechMiniInput, num_utterances=30)
    assert few.NumExamples() == 30
    assert len(few.Waveform(0)) > 8000
