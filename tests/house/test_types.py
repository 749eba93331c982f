"""What type checkers and editors see: Params know what they build, and the package passes mypy.

mypy runs once, with the settings of pyproject.toml, over the package and a file of cases.
"""

import pathlib
import re
import subprocess
import sys

import pytest

pytest.importorskip('mypy')

REPOSITORY = pathlib.Path(__file__).parents[2]

PRELUDE = """
from lingvo_lite import decoding, hyperparams, inputs, layers, optim, registry
from lingvo_lite.experiment import BaseExperiment
from lingvo_lite.hyperparams import InstantiableParams, Self

class Mine(layers.Linear):
    @classmethod
    def Params(cls) -> InstantiableParams[Self]:
        p = super().Params()
        p.Define('bias', 0.0, 'What is added.')
        p.use_bias = False
        return p

@registry.Register
class Experiment(BaseExperiment): ...

p = layers.Linear.Params()
layer = p.Instantiate()
"""

LINEAR = 'lingvo_lite.layers.linear.Linear'

# What is written -> what mypy says, a regex; '' for nothing.
CASES = {
    # What is built.
    'reveal_type(p)': rf'"lingvo_lite\.hyperparams\.InstantiableParams\[{LINEAR}\]"',
    'reveal_type(p.Instantiate())': f'"{LINEAR}"',
    'reveal_type(p.Set(input_dim=8).Copy().Freeze().Instantiate())': f'"{LINEAR}"',
    "reveal_type(p.FromText('').SetLabel('x').Delete('name').Instantiate())": f'"{LINEAR}"',
    'reveal_type(Mine.Params().Instantiate())': r'"[a-z_.]*\.?Mine"',
    'reveal_type(layers.RNN.Params().Instantiate())': r'"lingvo_lite\.layers\.recurrent\.rnn\.RNN"',
    'reveal_type(optim.Adam.Params().Instantiate())': r'"lingvo_lite\.optim\.[\w.]+\.Adam"',
    'reveal_type(inputs.ByteTokenizer.Params().Instantiate())': r'"[\w.]+\.ByteTokenizer"',
    'reveal_type(decoding.Search.Params().Instantiate())': r'"[\w.]+\.search\.Search"',
    "reveal_type(layer.CreateChild('x', p))": f'"{LINEAR}"',
    "reveal_type(layer.CreateChildren('x', [p]))": rf'"(builtins\.)?tuple\[{LINEAR}, \.\.\.\]"',
    'reveal_type(Experiment().Task().Instantiate())': r'"lingvo_lite\.task\.BaseTask"',
    'reveal_type(Experiment)': r'"def \(\) -> [a-z_.]*\.?Experiment"',
    # What may be written.
    'reveal_type(p.input_dim)': '"Any"',
    'p.input_dim = 8': '',
    'template: InstantiableParams[layers.BaseLayer] = p': '',
    # What may not.
    'p.Set(8)': 'Too many arguments for "Set"',
    "p.Define(8, 1, 'Text.')": '"Define" of "Params" has incompatible type "int"; expected "str"',
    "p.Define('x', 1)": 'Missing positional argument "description"',
    'hyperparams.InstantiableParams(8)': '"InstantiableParams" has incompatible type "int"',
    'lamb: optim.Lamb = optim.Adam.Params().Instantiate()': 'expression has type "Adam"',
    'params: InstantiableParams[optim.Lamb] = optim.Adam.Params()': r'"InstantiableParams\[Adam\]"',
    'layer.FProp()': 'Missing positional argument "x" in call to "FProp" of "Linear"',
    "layer.CreateChild('x', optim.Adam.Params())": '"CreateChild" of "BaseLayer" cannot be "Adam"',
}


@pytest.fixture(scope='module')
def said(tmp_path_factory):
    """{file: [(line, what mypy says)]}, the file of cases as ''."""
    folder = tmp_path_factory.mktemp('types')
    file = folder / 'cases.py'
    file.write_text(f'{PRELUDE}{chr(10).join(CASES)}\n')
    command = [sys.executable, '-m', 'mypy', '--no-error-summary', '--cache-dir', folder / 'cache']
    ran = subprocess.run(
        [*command, 'lingvo_lite', file], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    lines = [re.fullmatch(r'(.*?):(\d+): (.*)', line) for line in ran.stdout.splitlines()]
    found = {}
    for path, line, text in (match.groups() for match in lines if match):
        key = '' if path.endswith('cases.py') else path
        found.setdefault(key, []).append((int(line), text))
    return found


def test_the_package_passes_mypy(said):
    assert {file: errors for file, errors in said.items() if file} == {}


@pytest.mark.parametrize('case', CASES)
def test_mypy_knows_what_params_build(said, case):
    line = PRELUDE.count('\n') + 1 + list(CASES).index(case)
    texts = [text for at, text in said[''] if at == line]
    if CASES[case]:
        assert re.search(CASES[case], '\n'.join(texts)), texts
    else:
        assert texts == []


def test_the_cases_begin_without_an_error(said):
    assert [text for line, text in said[''] if line <= PRELUDE.count('\n')] == []
