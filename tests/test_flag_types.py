"""Types of flags: what they take, and how argparse names what they do not take."""

from __future__ import annotations

import argparse

import pytest

from lingvo_lite import flag_types


@pytest.mark.parametrize(
    ('kind', 'text', 'value'),
    [
        (flag_types.Natural, '0', 0),
        (flag_types.Count, '1', 1),
        (flag_types.Seconds, '0', 0.0),
        (flag_types.Positive, '1e-3', 0.001),
    ],
)
def test_the_least_value_is_taken(kind, text, value):
    assert kind(text) == value and type(kind(text)) is type(value)


@pytest.mark.parametrize(
    ('kind', 'texts', 'name'),
    [
        (flag_types.Natural, ['-1', '1.5', 'x', ''], 'int >= 0'),
        (flag_types.Count, ['0', '1.5', 'x', ''], 'int >= 1'),
        (flag_types.Seconds, ['-1', 'inf', 'nan', 'x'], 'seconds >= 0'),
        (flag_types.Positive, ['0', '-1', 'inf', 'nan', 'x'], 'number > 0'),
        (flag_types.Checked('even', int, lambda n: n % 2 == 0), ['1', 'x'], 'even'),
    ],
)
def test_the_error_says_what_is_wanted(kind, texts, name, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--n', type=kind)
    for text in texts:
        with pytest.raises(SystemExit):
            parser.parse_args([f'--n={text}'])
        assert f'argument --n: invalid {name} value: {text!r}' in capsys.readouterr().err
