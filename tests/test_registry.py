"""Experiments by name: where they are found, and what is said when they are not.

Each case runs in a process of its own, with a copy of floor 1 and packages written for it on
sys.path, so that nothing that it imports or registers stays, and nothing else is installed.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import lazy_loader
import pytest

from lingvo_lite import registry

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

EXPERIMENT = """
from lingvo_lite import registry

@registry.Register
class {name}:
    def Task(self):
        return '{name}'
"""

PRELUDE = """
import importlib, os, sys
from lingvo_lite import hyperparams, registry

def Error(name):
    try:
        return repr(registry.Get(name))
    except hyperparams.ConfigError as error:
        return f'{type(error).__name__}: {error}'
"""


class Site:
    """A folder on sys.path."""

    def __init__(self, path):
        self.path = path
        for file in pathlib.Path(REPOSITORY, 'lingvo_lite').glob('*.py*'):
            self.Write(f'lingvo_lite/{file.name}', file.read_text(encoding='utf-8'))
        shutil.copytree(
            f'{REPOSITORY}/lingvo_lite/configuration', path / 'lingvo_lite/configuration'
        )
        shutil.copytree(os.path.dirname(lazy_loader.__file__), path / 'lazy_loader')

    def Write(self, name, text):
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in file.relative_to(self.path).parents:
            if str(folder) != '.' and not str(folder).endswith('.dist-info'):
                (self.path / folder / '__init__.py').touch()
        file.write_text(textwrap.dedent(text))
        return file

    def WriteExperiment(self, file, name):
        return self.Write(file, EXPERIMENT.format(name=name))

    def WriteEntryPoint(self, family, module, package='plug'):
        info = f'{package}-1.0.dist-info'
        self.Write(f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n')
        self.Write(f'{info}/entry_points.txt', f'[{registry.GROUP}]\n{family} = {module}\n')

    def Run(self, code):
        done = subprocess.run(
            [sys.executable, '-S', '-c', PRELUDE + textwrap.dedent(code)],
            env={
                **os.environ,
                'PYTHONPATH': str(self.path),
                'PYTHONDONTWRITEBYTECODE': '1',
            },
            cwd=self.path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def plug(site):
    """A package with an entry point: its family is speech, its package another name."""
    site.WriteEntryPoint('speech', 'plug.recipes')
    site.WriteExperiment('plug/recipes/base.py', 'Base')
    site.WriteExperiment('plug/recipes/large.py', 'Large')
    site.Write('plug/recipes/_private.py', 'raise RuntimeError("private")')
    site.WriteExperiment('plug/other.py', 'Elsewhere')
    return site


def test_an_entry_point_brings_a_family(plug):
    out = plug.Run("""
        assert 'speech' in registry.Families()
        cls = registry.Get('speech.Large')
        print(cls.__module__, cls().Task(), registry.Name(cls))
        print(registry.List('speech'))
    """)
    assert out == "plug.recipes.large Large speech.Large\n['speech.Base', 'speech.Large']"


def test_a_family_is_imported_only_when_asked_for(plug):
    assert (
        plug.Run("""
        registry.Families()
        assert not any(m.startswith('plug') for m in sys.modules)
        registry.Get('speech.Base')
        assert 'plug.recipes.base' in sys.modules and 'plug.other' not in sys.modules
        print('ok')
    """)
        == 'ok'
    )


def test_the_module_qualified_form_works_too(plug):
    out = plug.Run("""
        print(registry.Get('plug.recipes.base.Base') is registry.Get('speech.Base'))
        other = registry.Get('plug.other.Elsewhere')
        print(registry.Name(other))
    """)
    # No process would find plug.Elsewhere by that name: plug is no family.
    assert out == 'True\nplug.other.Elsewhere'


def test_any_class_with_a_task_can_be_named_by_its_path(site):
    site.Write('mine/exps.py', 'class Mine:\n    def Task(self): pass\nclass Not: pass\nx = 3\n')
    site.Write('single.py', 'class Mine:\n    def Task(self): pass\n')
    out = site.Run("""
        for name in ('mine.exps.Mine', 'single.Mine', 'mine.exps.Not', 'mine.exps.x', 'mine.Gone'):
            print(Error(name))
    """).splitlines()
    assert out[0] == "<class 'mine.exps.Mine'>"
    assert out[1] == "<class 'single.Mine'>"
    assert out[2].startswith('ConfigError: mine.exps.Not is no experiment: that is a class with')
    assert out[3].startswith('ConfigError: mine.exps.x is no experiment')
    assert out[4].startswith("ExperimentNotFound: No experiment 'mine.Gone'.")


def test_two_packages_may_share_a_family(plug):
    plug.WriteEntryPoint('speech', 'more.recipes', package='more')
    plug.WriteExperiment('more/recipes/extra.py', 'Extra')
    out = plug.Run("print(registry.List('speech'))")
    assert out == "['speech.Base', 'speech.Extra', 'speech.Large']"


def test_an_unknown_experiment_names_the_nearest(plug):
    out = plug.Run("print(Error('speech.Larg'))")
    assert out == (
        "ExperimentNotFound: No experiment 'speech.Larg'. Nearest: speech.Large, speech.Base. "
        "'lingvo_lite list speech' shows all 2."
    )


@pytest.mark.parametrize(
    'name',
    ['nope.Base', 'Base', '', '.', 'a.', '.b', 'speech..Base', 'a b.C', '../x.y', 'os.system'],
)
def test_names_that_are_none(plug, name):
    out = plug.Run(f'print(Error({name!r}))')
    assert 'Error' in out or f'No experiment {name!r}.' in out
    assert 'Traceback' not in out
    if name in ('nope.Base', 'Base'):
        assert 'speech.Base' in out and 'Families:' in out and 'speech' in out
    if name == 'os.system':
        assert out.startswith('ConfigError: os.system is no experiment')


def test_an_unknown_family(plug):
    out = plug.Run("""
        try:
            registry.List('speach')
        except hyperparams.ConfigError as error:
            print(error)
    """)
    assert out.startswith("No family 'speach'. Families: ") and 'speech' in out


def test_registered_twice_names_both_places(plug):
    plug.WriteExperiment('plug/recipes/zz_copy.py', 'Base')
    out = plug.Run("print(Error('speech.Base'))")
    assert out == (
        'ConfigError: speech.Base is registered twice: '
        'plug/recipes/base.py:4 and plug/recipes/zz_copy.py:4.'
    )


def test_registered_twice_in_one_file(site):
    site.Write('twice.py', EXPERIMENT.format(name='Same') * 2)
    out = site.Run("print(Error('twice.Same'))")
    assert out == 'ConfigError: twice.Same is registered twice: twice.py:5 and twice.py:12.'


def test_a_reload_replaces_even_if_lines_moved(plug):
    out = plug.Run("""
        old = registry.Get('speech.Base')
        file = 'plug/recipes/base.py'
        text = open(file).read().replace("'Base'", "'changed'")
        open(file, 'w').write('# A line more.\\n' + text)
        importlib.reload(sys.modules['plug.recipes.base'])
        new = registry.Get('speech.Base')
        print(new is old, new().Task(), registry.List('speech'))
    """)
    assert out == "False changed ['speech.Base', 'speech.Large']"


def test_a_cell_of_a_notebook_run_again_replaces(site):
    out = site.Run("""
        for version in (1, 2):
            exec('@registry.Register\\nclass Mine:\\n    version = %d\\n' % version)
        print(registry.Get('main.Mine').version)
    """)
    assert out == '2'


def test_only_classes_are_registered(site):
    out = site.Run("""
        try:
            registry.Register(lambda: 1)
        except hyperparams.ConfigError as error:
            print(error)
    """)
    assert out.startswith('@registry.Register stands before a class, got <function')


@pytest.mark.parametrize(
    ('text', 'cause'),
    [
        ('import no_such_thing', "ModuleNotFoundError: No module named 'no_such_thing'"),
        ('x = undefined', "NameError: name 'undefined' is not defined (plug/recipes/bad.py:1)"),
        ('def f(:', 'SyntaxError: '),
        ('from plug import nothing', "ImportError: cannot import name 'nothing'"),
        ('1 / 0', 'ZeroDivisionError: division by zero (plug/recipes/bad.py:1)'),
    ],
)
def test_a_family_that_cannot_be_imported_gives_the_cause(plug, text, cause):
    plug.Write('plug/recipes/bad.py', text)
    for name in ('speech.Base', 'speech.Nope', 'plug.recipes.bad.Base'):
        out = plug.Run(f'print(Error({name!r}))')
        assert out.startswith('ConfigError: plug.recipes.bad cannot be imported: ')
        assert cause in out
        assert 'bad.py' in out or 'SyntaxError' in out
        assert '\n' not in out


def test_a_broken_package_does_not_hide_what_is_wrong_with_another_name(plug):
    plug.Write('plug/recipes/bad.py', '1 / 0')
    out = plug.Run("print(Error('nope.Base'))")
    assert out.startswith("ExperimentNotFound: No experiment 'nope.Base'.")


def test_an_entry_point_to_nowhere(site):
    site.WriteEntryPoint('speech', 'gone.recipes')
    out = site.Run("print(Error('speech.Base'))")
    assert out.startswith("ConfigError: The entry point 'speech' of an installed package names")
    assert "'gone.recipes'" in out


def test_built_in_families_need_no_entry_point(site):
    site.Write('lingvo_lite/tasks/tiny/model.py', 'raise RuntimeError("not looked at")')
    site.WriteExperiment('lingvo_lite/tasks/tiny/params/one.py', 'One')
    out = site.Run("""
        cls = registry.Get('tiny.One')
        print(registry.Families(), registry.List(), registry.Name(cls))
        print(cls is registry.Get('lingvo_lite.tasks.tiny.params.one.One'))
        print(Error('tiny.Two'))
    """).splitlines()
    assert out[0] == "['tiny'] ['tiny.One'] tiny.One"
    assert out[1] == 'True'
    assert out[2].endswith("Nearest: tiny.One. 'lingvo_lite list tiny' shows all 1.")


def test_without_the_built_in_tasks_it_says_what_to_do(site):
    out = site.Run("print(Error('mt.WmtEnDe'))")
    assert out == (
        "ExperimentNotFound: No experiment 'mt.WmtEnDe'. "
        "The built-in tasks are not installed: in a clone, run 'pip install -e .'."
    )
    site.WriteExperiment('mine.py', 'Mine')
    assert site.Run("print(Error('mine.Mine'))") == "<class 'mine.Mine'>"
