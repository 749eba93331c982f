"""Who may import whom, read from the sources: the floors of the house.

Each rule is a function from the sources to a list of what breaks it. It is tried on the repository,
and on a small house that breaks it, so that a rule that sees nothing fails. Rooms and floors are
those of `tools/house.py`.
"""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys

import pytest

from lingvo_lite.tools import house

HEAVY = ('tensorflow', 'keras', 'tensorflow_io')
# What takes a noticeable time to import.
SLOW = {*HEAVY, 'numpy', 'absl', 'sentencepiece', 'sacrebleu', 'jiwer', 'matplotlib', 'rich'}
NAMES_OF_NOTHING = {'utils', 'util', 'common', 'helpers', 'helper', 'misc'}
# Names with an underscore that are nobody's secret.
PUBLIC_UNDERSCORES = {'_asdict', '_fields', '_field_defaults', '_make', '_replace'}


def _IsPrivate(name):
    return name.startswith('_') and not name.startswith('__') and name not in PUBLIC_UNDERSCORES


def _Floor(module):
    room = house.RoomOf(module)
    return 9 if room is None else room.floor


def _Root(node):
    """The name that an expression such as `a.b(c)[d].e` begins with; '' if with none."""
    while True:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        else:
            return ''


def _Imported(module, source):
    """[(name here, what it is)] of all that a module imports."""
    found = []
    for node in house.Nodes(source):
        if isinstance(node, ast.ImportFrom):
            base = house.Base(module, node)
            found += [(a.asname or a.name, f'{base}.{a.name}') for a in node.names]
        elif isinstance(node, ast.Import):
            found += [(a.asname or a.name.split('.')[0], a.name) for a in node.names]
    return found


def _PrivateAttributes(source):
    """Nodes `x._name`, but for those of self, cls and super(), which may be inherited."""
    return [
        node
        for node in house.Nodes(source)
        if isinstance(node, ast.Attribute)
        and _IsPrivate(node.attr)
        and ast.unparse(node.value) not in ('self', 'cls', 'super()')
    ]


def Unplaced(sources):
    """Modules without a floor."""
    return [module for module in sources if house.RoomOf(module) is None]


def UpstairsImports(sources):
    """Imports from a higher floor, or from another room of the same floor."""
    broken = []
    for module, each in house.Own(house.Imports(sources)):
        own, other = house.RoomOf(module), house.RoomOf(each.target)
        if own is None or other is None or other.floor == 0:
            continue
        if not house.MayImport(own, other):
            broken.append(f'{module}:{each.line} (floor {own.floor}) imports {each.target}')
    return broken


def ImportsOfTasks(sources):
    """Imports of tasks/ from lingvo_lite/, which finds experiments by name."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in house.Own(house.Imports(sources))
        if not module.startswith(('lingvo_lite.tasks', 'lingvo_lite.tools', 'lingvo_lite.testing'))
        and each.target.startswith('lingvo_lite.tasks')
    ]


def TopLevelTasks(sources):
    """Imports of tasks/ and tools/ by the folder's name, which makes a second copy of all."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in house.Own(house.Imports(sources))
        if each.target.split('.')[0] in ('tasks', 'tools')
    ]


def AbsoluteSiblings(sources):
    """Imports between files of tasks/ that are not relative."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in house.Own(house.Imports(sources))
        if module.startswith('lingvo_lite.tasks')
        and each.target.startswith('lingvo_lite.tasks')
        and not each.relative
    ]


def ImportsOfTesting(sources):
    """Imports of testing/ by what is no test."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in house.Own(house.Imports(sources))
        if each.target.startswith('lingvo_lite.testing')
        and not module.startswith('lingvo_lite.testing')
    ]


def HeavyFloorOne(sources):
    """Imports of TensorFlow or Keras on floor 1."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, found in house.Imports(sources).items()
        for each in found
        if each.target.split('.')[0] in HEAVY and _Floor(module) <= 1
    ]


def TensorFlowIo(sources):
    """Imports of tensorflow_io outside inputs/speech/tfio_flac.py."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, found in house.Imports(sources).items()
        for each in found
        if each.target.split('.')[0] == 'tensorflow_io'
        and module != 'lingvo_lite.inputs.speech.tfio_flac'
    ]


def NamesOfNothing(sources):
    """Modules and packages whose name is no concept."""
    return [
        module
        for module in sources
        if any(
            part in NAMES_OF_NOTHING or part.rpartition('_')[2] in NAMES_OF_NOTHING
            for part in module.split('.')
        )
    ]


def Circles(sources):
    """Modules that import each other in a circle, inside functions too."""
    imports = house.Imports(sources)
    graph = {house.Module(module): set() for module in sources}
    for module, found in imports.items():
        graph[house.Module(module)] |= {each.target for each in found if each.target in graph}
    circles, done = [], set()

    def Follow(module, path):
        if module in path:
            circles.append(' -> '.join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in sorted(graph[module] - {module}):
                Follow(target, [*path, module])
            done.add(module)

    for module in sorted(graph):
        Follow(module, [])
    return circles


def PrivateNamesOfFiles(sources):
    """Private names of one file that another one imports, or reaches through what it imports."""
    broken = []
    for module, source in sources.items():
        imported = [
            each for each in _Imported(module, source) if each[1].startswith('lingvo_lite.')
        ]
        for _, target in imported:
            if _IsPrivate(target.rpartition('.')[2]):
                broken.append(f'{module} imports {target}')
        for node in _PrivateAttributes(source):
            if _Root(node) in dict(imported):
                broken.append(f'{module}:{node.lineno} uses {ast.unparse(node)}')
    return broken


def PrivateNamesOfRooms(sources):
    """Private attributes of objects whose names the module's own room does not know.

    Of files of one room this says nothing: what belongs to whom does not show in the source.
    """
    known, broken = {}, []
    for module, source in sources.items():
        names = known.setdefault(house.RoomOf(module), set())
        for node in house.Nodes(source):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ('self', 'cls'):
                names.add(node.attr)
    for module, source in sources.items():
        imported = dict(_Imported(module, source))
        for node in _PrivateAttributes(source):
            if node.attr not in known[house.RoomOf(module)] and _Root(node) not in imported:
                broken.append(f'{module}:{node.lineno} uses {ast.unparse(node)}')
    return broken


RULES = {
    Unplaced: {'lingvo_lite.attic.old': ''},
    UpstairsImports: {'lingvo_lite.layers.conv': 'from lingvo_lite.optim import schedules'},
    ImportsOfTasks: {'lingvo_lite.jobs.trainer': 'from lingvo_lite.tasks.mt import model'},
    TopLevelTasks: {'lingvo_lite.tools.bench': 'import tasks.mt'},
    AbsoluteSiblings: {'lingvo_lite.tasks.mt.model': 'from lingvo_lite.tasks.mt import input'},
    ImportsOfTesting: {'lingvo_lite.tools.bench': 'from lingvo_lite.testing import golden'},
    HeavyFloorOne: {'lingvo_lite.registry': 'def F():\n  import tensorflow as tf'},
    TensorFlowIo: {'lingvo_lite.inputs.text.parallel': 'import tensorflow_io as tfio'},
    NamesOfNothing: {'lingvo_lite.layers.conv_utils': ''},
    Circles: {
        'lingvo_lite.jobs.a': 'from lingvo_lite.jobs import b',
        'lingvo_lite.jobs.b': 'from . import c',
        'lingvo_lite.jobs.c': 'def F():\n  from .a import x',
    },
    PrivateNamesOfFiles: {'lingvo_lite.jobs.a': 'from lingvo_lite import step\nx = step._seed'},
    PrivateNamesOfRooms: {'lingvo_lite.jobs.a': 'def F(task):\n  return task._loss'},
}


def _SmallHouse():
    """Nothing but rooms."""
    described = '"""What lives here.\n\nWhat does not is jobs/."""\n'
    return {f'{room}.__init__': described for room in house.ROOMS}


@pytest.fixture(scope='module')
def sources():
    return house.Sources()


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule, sources):
    assert rule(sources) == []


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_rule_sees_what_breaks_it(rule):
    packages = _SmallHouse()
    packages.update({'lingvo_lite.tasks.mt.__init__': '', 'lingvo_lite.tasks.mt.input': ''})
    assert rule(packages) == []
    assert len(rule({**packages, **RULES[rule]})) == 1


@pytest.mark.parametrize(
    ('module', 'source', 'allowed'),
    [
        ('lingvo_lite.layers.a', 'from lingvo_lite import hyperparams, step', True),
        ('lingvo_lite.step', 'from lingvo_lite import task', False),
        ('lingvo_lite.overrides', 'from lingvo_lite import hyperparams', True),
        ('lingvo_lite.hyperparams', 'from lingvo_lite import step', False),
        ('lingvo_lite.inputs.a', 'from lingvo_lite.inputs import order', True),
        ('lingvo_lite.inputs.a', 'from lingvo_lite.decoding import search', False),
        ('lingvo_lite.inputs.a', 'from ..decoding import search', False),
        ('lingvo_lite.inputs.a', 'import lingvo_lite.task', False),
        ('lingvo_lite.experiment', 'from lingvo_lite import task', True),
        ('lingvo_lite.tasks.mt.model', 'from . import input', True),
        ('lingvo_lite.tasks.mt.params.a', 'from .. import model', True),
        ('lingvo_lite.tasks.mt.model', 'from lingvo_lite.layers import a', True),
        ('lingvo_lite.tasks.mt.model', 'from ..asr import model', False),
        ('lingvo_lite.tasks.mt.model', 'from lingvo_lite.training import learner', False),
        ('lingvo_lite.training.a', 'from lingvo_lite.tasks.mt import model', True),
        ('lingvo_lite.export.a', 'from lingvo_lite.jobs import trainer', False),
        ('lingvo_lite.serving.a', 'from lingvo_lite.jobs import trainer', True),
        ('lingvo_lite.desk.a', 'from lingvo_lite import export', True),
        ('lingvo_lite.desk.a', 'from lingvo_lite import serving', False),
        ('lingvo_lite.jobs.a', 'from lingvo_lite import serving', False),
        ('lingvo_lite.export.a', 'from lingvo_lite import desk', False),
        ('lingvo_lite.cli', 'from lingvo_lite import commands, serving', True),
        ('lingvo_lite.commands.a', 'from lingvo_lite import cli', True),
        ('lingvo_lite.desk.a', 'from lingvo_lite import commands', False),
        ('lingvo_lite.tools.a', 'from lingvo_lite import commands', False),
        ('lingvo_lite.cli', 'def F():\n  from lingvo_lite.jobs import trainer', True),
        ('lingvo_lite.cli', 'from lingvo_lite.commands import trainer', True),
        ('lingvo_lite.jobs.a', 'def F():\n  from lingvo_lite import cli', False),
        ('lingvo_lite.jobs.a', 'from lingvo_lite.commands import trainer', False),
        ('lingvo_lite.tools.a', 'from lingvo_lite.commands import trainer', False),
        ('lingvo_lite.tools.a', 'from lingvo_lite import cli', False),
        ('lingvo_lite.jobs.a', "importlib.import_module('lingvo_lite.cli')", False),
        ('lingvo_lite.jobs.a', 'from lingvo_lite import __version__', True),
    ],
)
def test_floors(module, source, allowed):
    small = _SmallHouse()
    small.update({f'lingvo_lite.tasks.{name}.__init__': '' for name in ('mt', 'asr')})
    small[module] = source
    assert UpstairsImports(small) == [] if allowed else len(UpstairsImports(small)) == 1


@pytest.mark.parametrize(
    ('source', 'allowed'),
    [
        ('from lingvo_lite.jobs.b import _F', False),
        ('from .b import _F as f', False),
        ('from . import b as other\nother.F()._x', False),
        ('from lingvo_lite.jobs.b import Thing\nThing._x', False),
        ('import lingvo_lite.jobs.b\nlingvo_lite.jobs.b._x', False),
        ('def F():\n  from . import b\n  return b._x', False),
        ('from . import b\nb.F(b.__doc__)._replace(x=1)', True),
        ('import os\nos._exit(1)', True),
        ('class A:\n  def F(self, other):\n    self._x = other._x', True),
        ('class A:\n  def F(self):\n    self._x = super()._F(self._inherited)', True),
        ('def F(thing):\n  return thing._of_b', True),
        ('def F(thing):\n  return thing._of_the_step', False),
        ('def F(thing):\n  thing._of_the_step = 1', False),
        ('def F(thing):\n  return thing.x[0]._of_the_step.y', False),
    ],
)
def test_private_names(source, allowed):
    small = _SmallHouse()
    small['lingvo_lite.step'] = 'class C:\n  def F(self): self._of_the_step = 1'
    small['lingvo_lite.jobs.b'] = 'class C:\n  def F(self): self._of_b = 1'
    small['lingvo_lite.jobs.a'] = source
    broken = PrivateNamesOfFiles(small) + PrivateNamesOfRooms(small)
    assert broken == [] if allowed else len(broken) == 1


@pytest.mark.parametrize('code', ['import lingvo_lite', 'import lingvo_lite.cli'])
def test_what_answers_at_once_imports_little(code):
    """A package that is there already, and a mistake in a flag, cost no start of TensorFlow."""
    script = f'import sys; before = set(sys.modules); {code}; print(*set(sys.modules) - before)'
    found = subprocess.run(
        [sys.executable, '-c', script], check=True, capture_output=True, text=True
    ).stdout.split()
    assert 'lingvo_lite' in found
    assert sorted({name.split('.')[0] for name in found} & SLOW) == []
    assert len(found) < 120, sorted(found)


def test_every_import_of_the_house_is_of_something_that_is_there(sources):
    """Also: that names are resolved at all, without which no rule would see anything."""
    known = {house.Module(module) for module in sources}
    own = list(house.Own(house.Imports(sources)))
    assert len(own) > 20
    assert [f'{m}:{each.line} {each.target}' for m, each in own if each.target not in known] == []


def test_tests_import_the_tasks_under_their_installed_name():
    tests = house.Tests()
    assert len(tests) > 5
    assert TopLevelTasks(tests) == []


def test_setup_lists_the_packages_that_there_are(sources):
    config = configparser.ConfigParser()
    config.read(os.path.join(house.REPOSITORY, 'setup.cfg'))
    listed = config['options']['packages'].split()
    assert len(listed) == len(set(listed))
    folders = {module.rpartition('.')[0] for module in sources}
    assert sorted(listed) == sorted(folders)
    assert [folder for folder in folders if f'{folder}.__init__' not in sources] == []
    placed = dict(
        line.split(' = ') for line in config['options']['package_dir'].split('\n') if line
    )
    assert placed == house.FOLDERS
