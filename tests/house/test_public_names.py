"""The public names: what experiments are written with, and what texts name classes by."""

from __future__ import annotations

import enum
import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys

import pytest

import lingvo_lite
from lingvo_lite import hyperparams, layers, literals, registry, renamed

ROOMS = ('decoding', 'inputs', 'layers', 'metrics', 'optim')
PACKAGES = ['lingvo_lite', *(f'lingvo_lite.{room}' for room in ROOMS)]
PACKAGES += [f'lingvo_lite.tasks.{family}' for family in ('asr', 'lm', 'mt')]


def classes_with_params():
    """Those that may stand in a text, of all modules of lingvo_lite and its tasks."""
    registry.List()
    for name in ('lingvo_lite', 'lingvo_lite.tasks'):
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f'{name}.'):
            if module.name.startswith(('lingvo_lite.testing', 'lingvo_lite.tools')):
                continue
            for each in vars(importlib.import_module(module.name)).values():
                if not isinstance(each, type) or each.__module__ != module.name:
                    continue
                has_params = isinstance(inspect.getattr_static(each, 'Params', None), classmethod)
                if (has_params or issubclass(each, enum.Enum)) and each.__name__[0] != '_':
                    yield each


@pytest.mark.parametrize('package', PACKAGES)
def test_every_name_is_there(package):
    module = importlib.import_module(package)
    assert module.__all__
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_classes_of_texts_have_public_names_that_are_read_back():
    """lingvo_lite.<room>.<Class>, lingvo_lite.tasks.<family>.<Class>; schedules and tasks apart."""
    found = list(classes_with_params())
    assert len(found) > 80
    for cls in found:
        name = literals.ClassName(cls)
        assert literals.FindClass(name) is cls
        if cls.__module__ not in ('lingvo_lite.optim.schedules', 'lingvo_lite.task'):
            depth = 4 if name.startswith('lingvo_lite.tasks.') else 3
            assert name.count('.') == depth - 1, f'{name} is not in its __init__.pyi'


def test_a_class_of_others_is_named_by_its_module():
    assert literals.ClassName(logging.Logger) == 'logging.Logger'


def test_a_class_below_another_is_named_by_its_module():
    class Inner:
        pass

    Inner.__module__ = 'lingvo_lite.layers.linear'
    Inner.__qualname__ = 'Linear.Inner'
    assert literals.ClassName(Inner) == 'lingvo_lite.layers.linear.Linear.Inner'


def test_a_near_name_is_suggested():
    with pytest.raises(literals.LiteralError, match="no class 'Linar'; did you mean 'Linear'"):
        literals.FindClass('lingvo_lite.layers.Linar')


def test_a_name_that_is_no_class_is_refused():
    for name in ('causal_mask', 'base', '__all__', 'importlib'):
        with pytest.raises(literals.LiteralError):
            literals.FindClass(f'lingvo_lite.layers.{name}')


def test_an_attribute_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match='Linar'):
        _ = layers.Linar


def test_a_class_is_found_whose_module_nothing_has_imported():
    code = (
        'import sys\n'
        'from lingvo_lite import literals\n'
        'assert "tensorflow" not in sys.modules and "numpy" not in sys.modules\n'
        'print(literals.FindClass("lingvo_lite.optim.novograd.NovoGrad"))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout == "<class 'lingvo_lite.optim.optimizers.novograd.NovoGrad'>\n", done.stderr


def test_nothing_heavy_is_imported_with_lingvo_lite():
    code = 'import sys, lingvo_lite; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert not {'tensorflow', 'keras', 'numpy', 'lingvo_lite.hyperparams'} & {*done.stdout.split()}


# Names of before.


@pytest.fixture
def told(caplog):
    """The lines of the log; nothing has been told yet."""
    renamed._Tell.cache_clear()
    caplog.set_level(logging.INFO)
    return lambda: caplog.messages


def test_an_old_name_is_read_with_a_line_in_the_log_once(told):
    p = hyperparams.Params()
    p.Define('part', None, 'A part.', type=hyperparams.Params, bound=layers.BaseLayer)
    for _ in range(2):
        p.FromText("part : params('lingvo_lite.layers.rnn_cells.LSTMCell')")
    assert p.part.cls is layers.LSTMCell
    assert p.ToText().startswith("part : params('lingvo_lite.layers.LSTMCell')\n")
    old, new = 'lingvo_lite.layers.rnn_cells.LSTMCell', 'lingvo_lite.layers.LSTMCell'
    assert told() == [f'The class {old} is called {new} by now.']


def test_a_text_is_translated_with_one_line_in_the_log(told):
    text = (
        "a : params('lingvo_lite.layers.linear.Linear')\n"
        "b : type('lingvo_lite.optim.adafactor.Adafactor')\n"
        "c : 'lingvo_lite.layers.linear.Linear'\n"
        "d : params('my.linear.Linear')\n"
    )
    assert renamed.PresentText(text, 'RUN/params.txt') == (
        "a : params('lingvo_lite.layers.Linear')\n"
        "b : type('lingvo_lite.optim.Adafactor')\n"
        "c : 'lingvo_lite.layers.linear.Linear'\n"
        "d : params('my.linear.Linear')\n"
    )
    assert told() == [
        'RUN/params.txt names 2 classes as they were called before; '
        'lingvo_lite.layers.linear.Linear is read as lingvo_lite.layers.Linear.'
    ]


def test_a_name_of_today_is_no_old_name(told):
    text = lingvo_lite.layers.TransformerEncoder.Params().ToText()
    assert renamed.PresentText(text, 'x') == text
    assert not told()
