"""lingvo_lite list."""

from __future__ import annotations

from lingvo_lite import cli

MODEL = 'mt.NumbersEnDe'


def test_list_shows_a_family_or_all(capsys):
    assert cli.Main(['list', 'mt']) == 0
    mt = capsys.readouterr().out.split()
    assert MODEL in mt and all(name.startswith('mt.') for name in mt)
    assert cli.Trainer(['--list']) == 0
    assert set(mt) <= set(capsys.readouterr().out.split())
    assert cli.Main(['list', 'mtt']) == 2
    assert "No family 'mtt'. Families: " in capsys.readouterr().err
