"""Fuzz tests: a property that few examples try in the fast tier and many in the slow one.

    @fuzz.Fuzz(40, 2000, damage=fuzz.DAMAGE)
    def test_a_damaged_header(damage):
        with fuzz.Documented(ValueError):
            Read(fuzz.Damaged(WHOLE, damage))

Examples are the same on every run. One that takes longer than 20 s is taken for a hang and fails.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import hypothesis
import pytest
from hypothesis import strategies as st

_SECONDS = 20
_AT = st.one_of(st.integers(0, 80), st.integers(-80, -1), st.integers(0, 1 << 20))
_CHANGE = st.one_of(
    st.tuples(st.just('flip'), _AT, st.integers(1, 255)),
    st.tuples(st.just('insert'), _AT, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just('cut'), _AT, st.integers(1, 2000)),
    st.tuples(st.just('end'), _AT, st.none()),
)
DAMAGE = st.lists(_CHANGE, min_size=1, max_size=3)


def Damaged(data: bytes, changes: Sequence[tuple[str, int, Any]]) -> bytes:
    """`data` with bytes flipped, inserted, cut out, or cut off; positions are modulo its size."""
    for kind, at, what in changes:
        at %= max(1, len(data))
        if kind == 'flip' and data:
            data = data[:at] + bytes([data[at] ^ what]) + data[at + 1 :]
        elif kind == 'insert':
            data = data[:at] + what + data[at:]
        elif kind == 'cut':
            data = data[:at] + data[at + what :]
        elif kind == 'end':
            data = data[:at]
    return data


def Fuzz(fast: int, slow: int, **strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Decorator: makes a test of a property, with `fast` and, in the slow tier, `slow` examples."""

    def Decorate(check: Callable[..., None]) -> Any:
        def Timed(**values: Any) -> None:
            with _Limit():
                check(**values)

        @pytest.mark.parametrize('examples', [fast, pytest.param(slow, marks=pytest.mark.slow)])
        def Test(examples: int) -> None:
            rules = hypothesis.settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,  # the machine may be busy; `_Limit` tells a hang
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            rules(hypothesis.given(**strategies)(Timed))()

        Test.__name__, Test.__doc__ = check.__name__, check.__doc__
        return Test

    return Decorate


@contextlib.contextmanager
def Documented(*errors: type[Exception]) -> Iterator[list[Exception]]:
    """Lets these errors pass, which are put into the list, if their message is one line."""
    raised: list[Exception] = []
    try:
        yield raised
    except errors as error:
        text = str(error)
        assert text and '\n' not in text and len(text) < 2000, repr(text)
        raised.append(error)


@contextlib.contextmanager
def _Limit() -> Iterator[None]:
    def Stop(*args: Any) -> None:
        raise AssertionError(f'still at work after {_SECONDS} s')

    before = signal.signal(signal.SIGALRM, Stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
