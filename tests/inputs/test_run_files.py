"""Files that a run owns."""

from __future__ import annotations

import hashlib
import json

import pytest

from lingvo_lite.inputs import data_files, run_files
from lingvo_lite.inputs.text import tokenizers


@pytest.fixture
def given(tmp_path):
    """A file of data."""
    path = tmp_path / 'data' / 'words.model'
    path.parent.mkdir()
    path.write_text('words')
    return path


def kept(folder, given, **kwargs):
    """What `Path` finds inside of `Of`, and saves."""
    with run_files.Of(str(folder), **kwargs) as keeper:
        path = run_files.Path('a.model', lambda: str(given))
        keeper.Save()
    return path


def test_what_a_run_has_is_taken_from_it(tmp_path, given):
    folder = tmp_path / 'run' / 'files'
    assert kept(folder, given) == str(given)
    given.unlink()
    path = kept(folder, given)
    assert path == str(folder / 'a.model')
    assert (folder / 'a.model').read_text() == 'words'


def test_outside_of_a_job_the_original_is_taken(given):
    assert run_files.Path('a.model', lambda: str(given)) == str(given)


def test_nothing_is_written_unless_it_is_saved(tmp_path, given):
    with run_files.Of(str(tmp_path / 'files')):
        run_files.Path('a.model', lambda: str(given))
    assert not (tmp_path / 'files').exists()


def test_a_run_that_begins_takes_nothing_of_what_lies_there(tmp_path, given):
    kept(tmp_path / 'files', given)
    given.write_text('other words')
    assert kept(tmp_path / 'files', given, fresh=True) == str(given)
    assert (tmp_path / 'files' / 'a.model').read_text() == 'other words'


@pytest.mark.parametrize(
    ('harm', 'said'),
    [
        (lambda folder: (folder / 'a.model').write_text('w0rds'), 'a.model is damaged: its SHA'),
        (lambda folder: (folder / 'a.model').unlink(), 'a.model is missing'),
        (lambda folder: (folder / 'files.json').write_text('{'), 'files.json is damaged'),
    ],
)
def test_a_damaged_file_is_told(tmp_path, given, harm, said):
    kept(tmp_path / 'files', given)
    harm(tmp_path / 'files')
    with pytest.raises(run_files.DamagedError, match=said):
        kept(tmp_path / 'files', given)


def test_the_manifest_says_the_hash(tmp_path, given):
    kept(tmp_path / 'files', given)
    held = json.loads((tmp_path / 'files' / 'files.json').read_text())
    assert held == {'a.model': hashlib.sha256(b'words').hexdigest()}


@pytest.mark.parametrize(
    'params',
    [
        tokenizers.SentencePieceTokenizer.Params().Set(vocab_size=20, train_files=['a.txt']),
        tokenizers.CharacterTokenizer.Params().Set(train_files=['a.txt']),
    ],
    ids=lambda p: p.cls.__name__,
)
def test_tokenizers_come_from_the_run(tmp_path, monkeypatch, params):
    """With no data and an empty cache, and with data that have changed."""
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('LINGVO_LITE_DATA', raising=False)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'a.txt').write_text('one two three\nfour five six seven\n' * 9)
    data_files.SetDataDir(str(tmp_path / 'data'))
    try:
        with run_files.Of(str(tmp_path / 'files')) as keeper:
            before = params.Instantiate()
            keeper.Save()
        monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'empty'))
        data_files.SetDataDir(str(tmp_path / 'nothing'))
        with run_files.Of(str(tmp_path / 'files')):
            after = params.Instantiate()
        assert after.Fingerprint() == before.Fingerprint()
        assert after.Encode(['two five']) == before.Encode(['two five'])
        with pytest.raises(FileNotFoundError, match=r'a\.txt'):
            params.Instantiate()
    finally:
        data_files.SetDataDir(None)
