"""lingvo_lite check."""

from __future__ import annotations

from lingvo_lite import cli

MODEL = 'mt.NumbersEnDe'


def test_check_finds_dimensions_that_do_not_fit(capsys):
    assert cli.Main(['check', MODEL]) == 0
    out = capsys.readouterr().out
    assert ' parameters in ' in out and 'Test: NumbersInput, params fit' in out
    assert cli.Main(['check', MODEL, '--set=task.encoder.num_heads=3']) == 2
    assert 'num_heads=3 does not divide' in capsys.readouterr().err
