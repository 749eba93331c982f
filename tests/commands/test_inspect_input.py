"""lingvo_lite inspect-input."""

from __future__ import annotations

import os

from lingvo_lite import cli


def test_inspect_input_shows_three_batches(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), '..', 'e2e'))
    import tiny_experiment

    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    tiny_experiment.WriteData(tmp_path)
    flags = [f'--data_dir={tmp_path}', '--dataset=Train']
    assert cli.Main(['inspect-input', 'tiny_experiment.Digits', *flags]) == 0
    out = capsys.readouterr().out
    assert out.startswith('400 examples\n')
    assert [f'batch {i}, epoch 0: ' in out for i in range(4)] == [True, True, True, False]
    assert 'padding' in out and 'longest: ' in out and 'train.src' in out
    from lingvo_lite.inputs import data_files

    data_files.SetDataDir(None)
