"""The text of mt.NumbersEnDe."""

import collections
import os

import pytest

from lingvo_lite.tasks.mt import numbers

NAMES = [f'{split}.{language}' for split in ('train', 'dev', 'test') for language in ('en', 'de')]


@pytest.fixture
def few(monkeypatch):
    """Few lines of few numbers."""
    monkeypatch.setattr(numbers, '_LINES', {'train': 200, 'dev': 20, 'test': 30})
    monkeypatch.setattr(numbers, '_LIMIT', 150)


def Lines(folder, name):
    return (folder / name).read_text(encoding='utf-8').splitlines()


def test_words():
    assert numbers.Words(205) == ('two hundred and five', 'zweihundertfünf')
    assert numbers.Words(4017) == ('four thousand and seventeen', 'viertausendsiebzehn')


def test_a_number_belongs_to_one_dataset_whatever_the_run():
    shares = collections.Counter(map(numbers.Split, range(10_000)))
    assert shares['test'] == pytest.approx(1000, rel=0.1)
    assert shares['dev'] == pytest.approx(500, rel=0.1)
    assert [n for n in range(60) if numbers.Split(n) == 'test'] == [0, 4, 9, 13, 26, 28, 37, 40, 41]
    assert [n for n in range(80) if numbers.Split(n) == 'dev'] == [3, 39, 58, 72]


def test_no_number_of_dev_and_test_is_seen_in_training(few, tmp_path):
    numbers.Write(str(tmp_path))
    known = {numbers.Words(n): n for n in range(150)}
    for split, count in (('train', 200), ('dev', 20), ('test', 30)):
        sides = [Lines(tmp_path, f'{split}.{language}') for language in ('en', 'de')]
        assert len(sides[0]) == len(sides[1]) == len(set(sides[0])) == count
        for pair in zip(*sides):
            # Both sides add up the same numbers, and each is one of this dataset.
            terms = list(zip(*(text.split(' plus ') for text in pair)))
            assert 1 <= len(terms) <= 4
            assert {numbers.Split(known[term]) for term in terms} == {split}


def test_the_text_is_always_the_same(few, tmp_path):
    for folder in ('a', 'b'):
        numbers.Write(str(tmp_path / folder))
    for name in NAMES:
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def test_what_is_there_is_kept_and_what_is_missing_is_made(few, tmp_path):
    numbers.Write(str(tmp_path))
    before = {name: os.stat(tmp_path / name).st_mtime_ns for name in NAMES}
    numbers.Write(str(tmp_path))
    assert {name: os.stat(tmp_path / name).st_mtime_ns for name in NAMES} == before
    text = (tmp_path / 'dev.de').read_bytes()
    os.unlink(tmp_path / 'dev.de')
    numbers.Write(str(tmp_path))
    assert (tmp_path / 'dev.de').read_bytes() == text
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)  # and nothing temporary
