"""A bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from lingvo_lite.jobs.reporting import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return logging.getLogger('lingvo_lite.test')


def report(log):
    with console.Progress(0, 100, log) as progress:
        progress.Step(42)
        progress.Report(42, 'step 42  loss 1.5', loss=1.5, tokens_per_second=1234.0)


def test_lines_where_there_is_no_terminal(monkeypatch, caplog, log):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    report(log)
    assert [record.getMessage() for record in caplog.records] == ['step 42  loss 1.5']


def test_a_bar_on_a_terminal(monkeypatch, caplog, log):
    terminal = Terminal()
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '120')
    monkeypatch.setattr(sys, 'stderr', terminal)
    report(log)
    assert not caplog.records
    shown = terminal.getvalue()
    assert 'step 42/100' in shown and 'loss 1.5000' in shown and '1,234 tokens/s' in shown


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(4.2, '4 s'), (200, '3 min 20 s'), (7500, '2 h 05 min'), (273600, '3 d 4 h')],
)
def test_durations(seconds, text):
    assert console.Duration(seconds) == text
