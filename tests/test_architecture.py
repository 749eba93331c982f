"""Who may import whom, read from the sources: the floors of the house.

Each rule is a function from the sources to a list of what breaks it. It is tried on the repository,
and on a small house that breaks it, so that a rule that sees nothing fails.
"""

import ast
import configparser
import functools
import os
from typing import NamedTuple

import pytest

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Room -> floor. What has a floor to itself is one room; a file imports from its own room and from
# lower floors.
ROOMS = {
    'lingvo_lite': 0,
    'lingvo_lite.hyperparams': 1,
    'lingvo_lite.literals': 1,
    'lingvo_lite.overrides': 1,
    'lingvo_lite.registry': 1,
    'lingvo_lite.renamed': 1,
    'lingvo_lite.nested_map': 1,
    'lingvo_lite.flag_types': 1,
    'lingvo_lite.step': 2,
    'lingvo_lite.layers': 2,
    'lingvo_lite.inputs': 3,
    'lingvo_lite.decoding': 3,
    'lingvo_lite.metrics': 3,
    'lingvo_lite.optim': 3,
    'lingvo_lite.runs': 3,
    'lingvo_lite.task': 4,
    'lingvo_lite.experiment': 4,
    'lingvo_lite.tasks': 5,
    'lingvo_lite.training': 6,
    'lingvo_lite.jobs': 7,
    'lingvo_lite.export': 7,
    'lingvo_lite.cli': 8,
    'lingvo_lite.commands': 8,
    'lingvo_lite.tools': 8,
    'lingvo_lite.testing': 9,
}
FLOORS_OF_ONE_ROOM = (1, 2, 4)
DOORS = {'lingvo_lite.cli': 'lingvo_lite.commands'}  # a file that is one room with the package
FOLDERS = {'lingvo_lite': 'lingvo_lite', 'lingvo_lite.tasks': 'tasks', 'lingvo_lite.tools': 'tools'}
HEAVY = ('tensorflow', 'keras', 'tensorflow_io')
NAMES_OF_NOTHING = {'utils', 'util', 'common', 'helpers', 'helper', 'misc'}


class Import(NamedTuple):
    """One import: what, in which line, and whether it was written with dots in front."""

    target: str
    line: int
    relative: bool


def _Sources():
    """{module: source} of all that is installed, as it is installed."""
    sources = {}
    for package, folder in FOLDERS.items():
        for path, folders, files in os.walk(os.path.join(REPOSITORY, folder)):
            folders[:] = [f for f in folders if f != '__pycache__']
            below = os.path.relpath(path, os.path.join(REPOSITORY, folder)).split(os.sep)
            for file in files:
                if not file.endswith('.py'):
                    continue
                parts = [package, *(p for p in below if p != '.'), file[: -len('.py')]]
                module = '.'.join(parts)
                with open(os.path.join(path, file), encoding='utf-8') as text:
                    sources[module] = text.read()
    return sources


def _Module(name):
    """The module's name for imports: that of a package without __init__."""
    return name[: -len('.__init__')] if name.endswith('.__init__') else name


@functools.cache
def _Nodes(source):
    kinds = (ast.Import, ast.ImportFrom, ast.Call)
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def _Imports(sources):
    """{module: [Import]}, those inside functions and those by importlib included."""
    known = {_Module(name) for name in sources}

    def Resolve(base, name):
        full = f'{base}.{name}' if base else name
        return full if full in known else base

    found = {}
    for name, source in sources.items():
        package = name.rpartition('.')[0]
        imports = found.setdefault(name, [])
        for node in _Nodes(source):
            if isinstance(node, ast.Import):
                imports += [Import(alias.name, node.lineno, False) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ''
                if node.level:
                    above = package.split('.')
                    above = above[: len(above) - node.level + 1]
                    base = '.'.join([*above, base] if base else above)
                for alias in node.names:
                    imports.append(Import(Resolve(base, alias.name), node.lineno, node.level > 0))
            elif isinstance(node, ast.Call) and node.args:
                called = ast.unparse(node.func).rpartition('.')[2]
                arg = node.args[0]
                if called in ('import_module', '__import__') and isinstance(arg, ast.Constant):
                    imports.append(Import(str(arg.value), node.lineno, False))
    return found


def _Room(module):
    """(floor, room): rooms of one floor do not import each other."""
    module = _Module(module)
    for depth in range(module.count('.') + 1, 0, -1):
        room = '.'.join(module.split('.')[:depth])
        if room in ROOMS and (room != 'lingvo_lite' or module == room):
            break
    else:
        return None
    floor = ROOMS[room]
    if room == 'lingvo_lite.tasks':
        room = '.'.join(module.split('.')[:3])  # Each family is a room.
    return floor, floor if floor in FLOORS_OF_ONE_ROOM else DOORS.get(room, room)


def _Own(imports):
    """(module, Import) of the imports that stay in the house."""
    for module, found in imports.items():
        for each in found:
            if each.target.split('.')[0] in ('lingvo_lite', 'tasks', 'tools'):
                yield module, each


def Unplaced(sources):
    """Modules without a floor."""
    return [module for module in sources if _Room(module) is None]


def UpstairsImports(sources):
    """Imports from a higher floor, or from another room of the same floor."""
    broken = []
    for module, each in _Own(_Imports(sources)):
        own, other = _Room(module), _Room(each.target)
        if own is None or other is None or other[0] == 0 or own[1] == other[1]:
            continue
        if own[0] == 5 and other == (5, 'lingvo_lite.tasks'):
            continue
        if other[0] >= own[0]:
            broken.append(f'{module}:{each.line} (floor {own[0]}) imports {each.target}')
    return broken


def ImportsOfTasks(sources):
    """Imports of tasks/ from lingvo_lite/, which finds experiments by name."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in _Own(_Imports(sources))
        if not module.startswith(('lingvo_lite.tasks', 'lingvo_lite.tools', 'lingvo_lite.testing'))
        and each.target.startswith('lingvo_lite.tasks')
    ]


def TopLevelTasks(sources):
    """Imports of tasks/ and tools/ by the folder's name, which makes a second copy of all."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in _Own(_Imports(sources))
        if each.target.split('.')[0] in ('tasks', 'tools')
    ]


def AbsoluteSiblings(sources):
    """Imports between files of tasks/ that are not relative."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in _Own(_Imports(sources))
        if module.startswith('lingvo_lite.tasks')
        and each.target.startswith('lingvo_lite.tasks')
        and not each.relative
    ]


def ImportsOfTesting(sources):
    """Imports of testing/ by what is no test."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, each in _Own(_Imports(sources))
        if each.target.startswith('lingvo_lite.testing')
        and not module.startswith('lingvo_lite.testing')
    ]


def HeavyFloorOne(sources):
    """Imports of TensorFlow or Keras on floor 1."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, found in _Imports(sources).items()
        for each in found
        if (_Room(module) or (9,))[0] <= 1 and each.target.split('.')[0] in HEAVY
    ]


def TensorFlowIo(sources):
    """Imports of tensorflow_io outside inputs/speech/audio.py."""
    return [
        f'{module}:{each.line} imports {each.target}'
        for module, found in _Imports(sources).items()
        for each in found
        if each.target.split('.')[0] == 'tensorflow_io'
        and module != 'lingvo_lite.inputs.speech.audio'
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
    imports = _Imports(sources)
    graph = {_Module(module): set() for module in sources}
    for module, found in imports.items():
        graph[_Module(module)] |= {each.target for each in found if each.target in graph}
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
}


@pytest.fixture(scope='module')
def sources():
    return _Sources()


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule, sources):
    assert rule(sources) == []


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_rule_sees_what_breaks_it(rule):
    packages = {f'{room}.__init__': '' for room in ROOMS}
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
    house = {f'{room}.__init__': '' for room in ROOMS}
    house.update({f'lingvo_lite.tasks.{name}.__init__': '' for name in ('mt', 'asr')})
    house[module] = source
    assert UpstairsImports(house) == [] if allowed else len(UpstairsImports(house)) == 1


def test_every_import_of_the_house_is_of_something_that_is_there(sources):
    """Also: that names are resolved at all, without which no rule would see anything."""
    known = {_Module(module) for module in sources}
    own = list(_Own(_Imports(sources)))
    assert len(own) > 20
    assert [f'{m}:{each.line} {each.target}' for m, each in own if each.target not in known] == []


def test_tests_import_the_tasks_under_their_installed_name():
    sources = {}
    for path, _, files in os.walk(os.path.join(REPOSITORY, 'tests')):
        for file in files:
            if file.endswith('.py'):
                name = os.path.relpath(os.path.join(path, file), REPOSITORY)
                with open(os.path.join(path, file), encoding='utf-8') as text:
                    sources[name[: -len('.py')].replace(os.sep, '.')] = text.read()
    assert len(sources) > 5
    assert TopLevelTasks(sources) == []


def test_setup_lists_the_packages_that_there_are(sources):
    config = configparser.ConfigParser()
    config.read(os.path.join(REPOSITORY, 'setup.cfg'))
    listed = config['options']['packages'].split()
    assert len(listed) == len(set(listed))
    folders = {module.rpartition('.')[0] for module in sources}
    assert sorted(listed) == sorted(folders)
    assert [folder for folder in folders if f'{folder}.__init__' not in sources] == []
    placed = dict(
        line.split(' = ') for line in config['options']['package_dir'].split('\n') if line
    )
    assert placed == FOLDERS
