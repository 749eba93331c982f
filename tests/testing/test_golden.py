"""Golden texts."""

from __future__ import annotations

import pytest

from lingvo_lite.testing import golden


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, 'FOLDER', tmp_path / 'golden')
    monkeypatch.delenv('UPDATE_GOLDEN', raising=False)


def _Update(monkeypatch, name, text):
    with monkeypatch.context() as patch:
        patch.setenv('UPDATE_GOLDEN', '1')
        golden.Check(name, text)


def test_what_was_written_is_accepted(monkeypatch):
    text = 'a : 1\nb : "ü"\r\n'
    _Update(monkeypatch, 'mt.Tiny', text)
    assert (golden.FOLDER / 'mt.Tiny.txt').read_bytes() == text.encode()
    golden.Check('mt.Tiny', text)


def test_a_difference_is_shown_and_the_file_stays(monkeypatch):
    _Update(monkeypatch, 'x', 'a : 1\nb : 2\n')
    with pytest.raises(AssertionError, match=r'(?s)-b : 2\n\+b : 3.*UPDATE_GOLDEN=1') as error:
        golden.Check('x', 'a : 1\nb : 3\n')
    assert '-a' not in str(error.value)
    golden.Check('x', 'a : 1\nb : 2\n')


def test_line_ends_count(monkeypatch):
    _Update(monkeypatch, 'x', 'a\n')
    with pytest.raises(AssertionError, match='line ends only'):
        golden.Check('x', 'a')


def test_a_long_difference_is_cut(monkeypatch):
    _Update(monkeypatch, 'x', '')
    with pytest.raises(AssertionError, match=r'and 163 lines more') as error:
        golden.Check('x', 'line\n' * 200)
    assert str(error.value).count('\n') < 50


def test_a_missing_file_says_how_to_write_it():
    with pytest.raises(AssertionError, match=r'There is no .*x.txt. UPDATE_GOLDEN=1 writes it'):
        golden.Check('x', '')


@pytest.mark.parametrize('name', ['', '../x', 'a/b', '.x'])
def test_names(name):
    with pytest.raises(ValueError, match='is no name for a golden file'):
        golden.Check(name, '')


def test_the_folder_is_that_of_the_repository():
    import pathlib

    import lingvo_lite

    repository = pathlib.Path(lingvo_lite.__file__).resolve().parents[1]
    assert golden.__file__ == str(repository / 'lingvo_lite' / 'testing' / 'golden.py')
