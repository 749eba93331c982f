"""Finding data files: where they are looked for, patterns, and what is said without them."""

import pytest

from lingvo_lite.inputs import data_files


def Write(path, data):
    path.write_bytes(data)
    return str(path)


def test_find_data_looks_in_three_places(tmp_path, monkeypatch, cache_folder):
    other = tmp_path / 'other'
    (other / 'sub').mkdir(parents=True)
    Write(cache_folder / 'x', b'cache')
    assert data_files.FindData('x') == str(cache_folder / 'x')
    monkeypatch.setenv('LINGVO_LITE_DATA', str(other))
    Write(other / 'x', b'env')
    assert data_files.FindData('x') == str(other / 'x')
    Write(tmp_path / 'x', b'flag')
    assert data_files.FindData('x') == str(tmp_path / 'x')
    Write(other / 'sub/y.gz', b'')
    assert data_files.FindData('sub/y') == str(other / 'sub/y.gz')
    assert data_files.FindData(str(other / 'x')) == str(other / 'x')


def test_missing_data_says_where_how_and_who(tmp_path, cache_folder):
    with pytest.raises(FileNotFoundError) as error:
        data_files.FindData('wmt/train.en', 'tools/prepare_wmt.py')
    text = str(error.value)
    for part in ("'wmt/train.en'", f'{tmp_path} (--data_dir)', str(cache_folder)):
        assert part in text
    for part in ('--data_dir=FOLDER', 'LINGVO_LITE_DATA', 'tools/prepare_wmt.py makes this file'):
        assert part in text
    with pytest.raises(FileNotFoundError, match='No data file /nowhere/x'):
        data_files.FindData('/nowhere/x')


def test_patterns(tmp_path):
    for name in ('b-1', 'a-2', 'a-1'):
        Write(tmp_path / name, b'')
    Write(tmp_path / 'a-1.index.npz', b'')
    found = data_files.FindDataFiles('a-*, b-*')
    assert [path[-3:] for path in found] == ['a-1', 'a-2', 'b-1']
    with pytest.raises(FileNotFoundError, match=r'c-\*'):
        data_files.FindDataFiles('a-*,c-*')


def test_a_data_folder_may_have_any_name(tmp_path):
    """Only what a recipe names may be a pattern."""
    folder = tmp_path / 'data[1]*'
    folder.mkdir()
    (folder / 'a-0.tfrecord').write_text('')
    data_files.SetDataDir(str(folder))
    try:
        assert data_files.FindDataFiles('a-*.tfrecord') == [str(folder / 'a-0.tfrecord')]
        assert data_files.FindData('a-0.tfrecord') == str(folder / 'a-0.tfrecord')
    finally:
        data_files.SetDataDir(None)
