"""lingvo_lite diff."""

from __future__ import annotations

from lingvo_lite import cli

MODEL = 'mt.NumbersEnDe'


def test_diff_of_models_files_and_log_directories(tmp_path, capsys):
    assert cli.Main(['show', MODEL]) == 0
    (tmp_path / 'run').mkdir()
    text = capsys.readouterr().out
    (tmp_path / 'run/params.txt').write_text(text)
    changed = text.replace('task.train.max_steps : ', 'task.train.max_steps : 9')
    (tmp_path / 'file.txt').write_text(changed)
    assert cli.Main(['diff', MODEL, str(tmp_path / 'run')]) == 0
    assert capsys.readouterr().out == 'no difference\n'
    assert cli.Main(['diff', str(tmp_path / 'run'), str(tmp_path / 'file.txt')]) == 0
    out = capsys.readouterr().out
    assert out.startswith('task.train.max_steps : ') and ' -> 9' in out and out.count('\n') == 1
    assert cli.Main(['diff', 'mt.WmtEnDe', 'mt.WmtEnDeBig']) == 0
    assert 'task.model_dim : 512 -> 1024\n' in capsys.readouterr().out


def test_diff_of_nothing_is_a_mistake(tmp_path, capsys):
    assert cli.Main(['diff', MODEL, str(tmp_path / 'nothing.txt')]) == 2
    assert 'There is no params file or log directory' in capsys.readouterr().err
