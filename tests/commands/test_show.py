"""lingvo_lite show."""

from __future__ import annotations

from lingvo_lite import cli

MODEL = 'mt.NumbersEnDe'


def test_show_prints_what_params_txt_will_hold(capsys):
    assert cli.Main(['show', MODEL, '--set=task.train.max_steps=7']) == 0
    text = capsys.readouterr().out.split('\n')
    assert "model : 'mt.NumbersEnDe'" in text and 'task.train.max_steps : 7' in text


def test_show_why_tells_value_meaning_and_origin(capsys):
    assert cli.Main(['show', MODEL, '--why=task.train.max_steps']) == 0
    out = capsys.readouterr().out
    assert 'Stop after this many steps' in out and 'numbers.py:' in out
    assert (
        cli.Main(['show', MODEL, '--set=task.train.max_steps=7', '--why=task.train.max_steps']) == 0
    )
    assert 'set at --set, argument 1' in capsys.readouterr().out
