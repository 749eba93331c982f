"""A cache folder and a data folder of each test's own."""

import pytest

from lingvo_lite.inputs import data_files


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(folder))
    return folder


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv('LINGVO_LITE_DATA', raising=False)
    data_files.SetDataDir(str(tmp_path))
    yield tmp_path
    data_files.SetDataDir(None)
