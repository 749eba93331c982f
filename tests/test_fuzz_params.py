"""Damaged and arbitrary text as params: set as a whole, or one line that says what is wrong."""

import os

import pytest
from hypothesis import strategies as st

from lingvo_lite import experiment, hyperparams, literals, overrides, registry
from lingvo_lite.runs import resume, rundir
from lingvo_lite.testing import fuzz

MODELS = ('mt.NumbersEnDe', 'asr.SpokenDigits')
PIECES = st.sampled_from(
    [
        "type('os.system')", "params('os.system')", "enum('os.system')", "dtype('bfloat16')",
        "dtype('O')", "dtype('V9999999999')", "dtype('i4,f8')", "float('inf')", "float('1')",
        "__import__('os').system('true')", 'lambda: 0', '[', ']', '(', '{', '}', "'", '"', '\\',
        ':', ' : ', '=', ',', '.', '..', '[0]', "['a']", '[-1]', 'None', 'True', 'REQUIRED',
        '1e999', '-', '9' * 999, '(' * 200, '-' * 300, '\n', '\r', '\t', '\x00', '\u2028', '\ufeff',
        '#', '!!python', 'task', 'task.train', 'input', 'model', 'cls', '__class__', 'self',
        '1 if 1 else 2', '0x10', 'f"{1}"', 'b"x"', '1j', '...', '*a', 'x := 1', 'await x', 'yield',
        '%', '`', '\ud800',
        "params('lingvo_lite.task.BaseTask')", "type('lingvo_lite.task.BaseTask')",
        "params('lingvo_lite.layers.linear.Linear')", "params('lingvo_lite.layers.base.BaseLayer')",
        "params('builtins.object')", "params('')", "params('.')", "type('typing.Any')", "{'a': 1}",
        "[params('lingvo_lite.layers.linear.Linear')]", '{1: 2, 1: 3}', '()', "'a' 'b'", '"""',
    ]
)  # fmt: skip
TEXT = st.one_of(PIECES, st.text(max_size=6), st.lists(PIECES, max_size=4).map(''.join))


@pytest.fixture(scope='module', autouse=True)
def params():
    for name in MODELS:
        cls = registry.Get(name)
        _Known.params[name] = experiment.RunParams(cls, 'Train')
    _Known.keys = sorted(
        {line.split(' : ')[0] for p in _Known.params.values() for line in p.ToText().split('\n')}
        - {''}
    )


class _Known:
    params: dict = {}
    keys: list = []


def Refused(raised):
    """Whether the only error is a ConfigError whose text shows no stack trace."""
    return bool(raised) and 'Traceback' not in str(raised[0])


def StaysWhole(p, before, raised):
    """Nothing was set if it was refused; what was set can be written and read back."""
    if raised:
        assert p.ToText() == before
    else:
        text = p.ToText()
        again = experiment.EmptyRunParams().FromText(text)
        assert again.ToText() == text


@fuzz.Fuzz(
    12,
    60,
    model=st.sampled_from(MODELS),
    at=st.lists(st.integers(0, 1 << 20), min_size=1, max_size=3),
    pieces=st.lists(TEXT, min_size=3, max_size=3),
    cut=st.integers(0, 30),
)
def test_damaged_text_of_an_experiment(model, at, pieces, cut):
    p = _Known.params[model].Copy()
    before = text = p.ToText()
    for place, piece in zip(at, pieces):
        place %= len(text)
        text = text[:place] + piece + text[place + cut :]
    with fuzz.Documented(hyperparams.ConfigError) as raised:
        p.FromText(text, source='params.txt')
    StaysWhole(p, before, raised)


@fuzz.Fuzz(
    25,
    125,
    model=st.sampled_from(MODELS),
    key=st.one_of(st.integers(0, 1 << 20), TEXT),
    sign=st.sampled_from(['=', ' = ', '', '==', ':']),
    value=TEXT,
)
def test_any_setting(model, key, sign, value):
    p = _Known.params[model].Copy()
    before = p.ToText()
    key = _Known.keys[key % len(_Known.keys)] if isinstance(key, int) else key
    with fuzz.Documented(hyperparams.ConfigError) as raised:
        overrides.Apply(p, [f'{key}{sign}{value}'])
    StaysWhole(p, before, raised)


@fuzz.Fuzz(25, 125, model=st.sampled_from(MODELS), key=st.integers(0, 1 << 20), value=TEXT)
def test_any_value_of_a_known_key_as_a_line(model, key, value):
    p = _Known.params[model].Copy()
    before = p.ToText()
    with fuzz.Documented(hyperparams.ConfigError) as raised:
        p.FromText(f'{_Known.keys[key % len(_Known.keys)]} : {value}')
    StaysWhole(p, before, raised)


@fuzz.Fuzz(100, 500, text=st.lists(TEXT, max_size=5).map(''.join))
def test_any_literal(text):
    with fuzz.Documented(literals.LiteralError):
        value = literals.Parse(text)
        # What is read is plain, or stands for a class, an enum or a dtype that is imported.
        assert value is None or not callable(value) or isinstance(value, type)


@fuzz.Fuzz(8, 60, damage=fuzz.DAMAGE)
def test_damaged_params_file(damage):
    p = _Known.params[MODELS[0]].Copy()
    before = p.ToText()
    path = os.path.join(os.environ['TMPDIR_OF_FUZZ'], 'params.txt')
    with open(path, 'wb') as file:
        file.write(fuzz.Damaged(before.encode(), damage))
    with fuzz.Documented(hyperparams.ConfigError) as raised:
        overrides.ApplyFile(p, path)
    StaysWhole(p, before, raised)


@fuzz.Fuzz(8, 60, damage=fuzz.DAMAGE)
def test_damaged_params_of_a_run(damage):
    p = _Known.params[MODELS[0]].Copy()
    run = rundir.RunDir(os.environ['TMPDIR_OF_FUZZ'])
    with open(run.params_file, 'wb') as file:
        file.write(fuzz.Damaged(p.ToText().encode(), damage))
    with fuzz.Documented(hyperparams.ConfigError):
        run.Model()
        resume.Compare(run.path, run.ReadParams(), p)
        experiment.EmptyRunParams().FromText(run.ReadParams(), source=run.params_file)


@pytest.fixture(scope='module', autouse=True)
def folder(tmp_path_factory):
    os.environ['TMPDIR_OF_FUZZ'] = str(tmp_path_factory.mktemp('run'))
    yield
    del os.environ['TMPDIR_OF_FUZZ']
