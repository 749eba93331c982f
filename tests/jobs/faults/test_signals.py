"""Asked to stop."""

from __future__ import annotations

import os
import signal

import pytest

from lingvo_lite.jobs.faults import signals


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_and_the_handlers_come_back(number, code):
    before = signal.getsignal(number)
    with signals.StopRequest() as stop:
        assert not stop.event.is_set() and stop.exit_code == 0
        os.kill(os.getpid(), number)
        assert stop.event.wait(5.0)
        assert stop.exit_code == code
    assert signal.getsignal(number) == before


def test_the_second_signal_ends_at_once(monkeypatch):
    ended = []
    monkeypatch.setattr(signals.os, '_exit', ended.append)
    with signals.StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.event.wait(5.0)
        os.kill(os.getpid(), signal.SIGINT)
    assert ended == [130]
