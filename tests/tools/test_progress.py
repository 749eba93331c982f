"""How far a loop is, where there is no terminal."""

from __future__ import annotations

import itertools
import time

import pytest

from lingvo_lite.tools import progress


@pytest.fixture(autouse=True)
def slow(monkeypatch):
    """Each look at the clock is six seconds behind the one before."""
    monkeypatch.setattr(time, 'monotonic', itertools.count(0.0, 6.0).__next__)


def test_items_are_passed_on_with_a_line_every_ten_seconds(capsys):
    assert list(progress.Progress('reading', 'abcd', 4, 'files')) == list('abcd')
    assert capsys.readouterr().err == (
        'reading: 2 of 4 files, 18 s\nreading: 4 of 4 files, 36 s\nreading: 4 files, 42 s\n'
    )


def test_what_is_left_is_told_where_the_end_is_known(capsys):
    list(progress.Progress('writing', 'abcd', 4, 'pairs', tells_left=True))
    assert 'writing: 2 of 4 pairs, 18 s left\n' in capsys.readouterr().err
    list(progress.Progress('writing', 'abcd', None, 'pairs', tells_left=True))
    assert 'writing: 2 pairs, 18 s\n' in capsys.readouterr().err
