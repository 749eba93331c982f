"""The house as its sources say: modules, their imports, and the floor and room of each.

Nothing is imported: sources are read as text. The rules on top of it are
`tests/house/test_architecture.py`; the picture of it is `house_map`.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = {'lingvo_lite': 'lingvo_lite', 'lingvo_lite.tasks': 'tasks', 'lingvo_lite.tools': 'tools'}

FLOORS = {
    9: 'tests',
    8: 'commands',
    7: 'jobs',
    6: 'one training step',
    5: 'models and experiments',
    4: 'what a task is',
    3: 'data, searches, scores, optimizers, runs',
    2: 'layers',
    1: 'configuration',
    0: 'the version',
}


class Room(NamedTuple):
    """Where a module belongs. It imports from its own room and from lower floors."""

    floor: int
    name: str


# What belongs to a room: a package with all below it, or a module that lies in lingvo_lite/ itself.
ROOMS = {
    'lingvo_lite': Room(0, 'version'),
    'lingvo_lite.configuration': Room(1, 'configuration'),
    'lingvo_lite.flag_types': Room(1, 'configuration'),
    'lingvo_lite.hyperparams': Room(1, 'configuration'),
    'lingvo_lite.literals': Room(1, 'configuration'),
    'lingvo_lite.nested_map': Room(1, 'configuration'),
    'lingvo_lite.overrides': Room(1, 'configuration'),
    'lingvo_lite.paths': Room(1, 'configuration'),
    'lingvo_lite.registry': Room(1, 'configuration'),
    'lingvo_lite.renamed': Room(1, 'configuration'),
    'lingvo_lite.dtype_policy': Room(2, 'layers'),
    'lingvo_lite.step': Room(2, 'layers'),
    'lingvo_lite.layers': Room(2, 'layers'),
    'lingvo_lite.inputs': Room(3, 'inputs'),
    'lingvo_lite.decoding': Room(3, 'decoding'),
    'lingvo_lite.metrics': Room(3, 'metrics'),
    'lingvo_lite.optim': Room(3, 'optim'),
    'lingvo_lite.runs': Room(3, 'runs'),
    'lingvo_lite.task': Room(4, 'task'),
    'lingvo_lite.experiment': Room(4, 'task'),
    'lingvo_lite.tasks': Room(5, 'tasks'),  # each family is a room: see RoomOf
    'lingvo_lite.training': Room(6, 'training'),
    'lingvo_lite.jobs': Room(7, 'jobs'),
    'lingvo_lite.export': Room(7, 'export'),
    'lingvo_lite.serving': Room(7, 'serving'),
    'lingvo_lite.desk': Room(7, 'desk'),
    'lingvo_lite.cli': Room(8, 'commands'),
    'lingvo_lite.commands': Room(8, 'commands'),
    'lingvo_lite.tools': Room(8, 'tools'),
    'lingvo_lite.testing': Room(9, 'testing'),
}
# Rooms that also import from others on their own floor.
NEIGHBOURS = {'serving': ('jobs', 'export'), 'desk': ('jobs', 'export')}


class Import(NamedTuple):
    """One import: what, in which line, and whether it was written with dots in front."""

    target: str
    line: int
    relative: bool


def Sources() -> dict[str, str]:
    """{module: source} of all that is installed, as it is installed; packages with .__init__."""
    found: dict[str, str] = {}
    for package, folder in FOLDERS.items():
        found.update(_Read(package, folder))
    return found


def Tests() -> dict[str, str]:
    """{module: source} of the tests."""
    return _Read('tests', 'tests')


def _Read(package: str, folder: str) -> dict[str, str]:
    found = {}
    top = os.path.join(REPOSITORY, folder)
    for path, folders, files in os.walk(top):
        folders[:] = sorted(f for f in folders if f != '__pycache__')
        below = [part for part in os.path.relpath(path, top).split(os.sep) if part != '.']
        for file in sorted(files):
            if file.endswith('.py'):
                module = '.'.join([package, *below, file[: -len('.py')]])
                with open(os.path.join(path, file), encoding='utf-8') as text:
                    found[module] = text.read()
    return found


def Module(name: str) -> str:
    """The module's name for imports: that of a package without __init__."""
    return name[: -len('.__init__')] if name.endswith('.__init__') else name


@functools.cache
def Nodes(source: str) -> list[ast.AST]:
    """All nodes of a source."""
    return list(ast.walk(ast.parse(source)))


def Docstring(source: str) -> str:
    """The docstring of a module; '' if it has none."""
    return ast.get_docstring(Nodes(source)[0]) or ''  # type: ignore[arg-type]


def Path(module: str, sources: Mapping[str, str]) -> str:
    """Where a module lies in the repository: 'lingvo_lite/step.py', 'tasks/mt/'."""
    inside = max((p for p in FOLDERS if f'{module}.'.startswith(f'{p}.')), key=len)
    path = (FOLDERS[inside] + module[len(inside) :]).replace('.', '/')
    return f'{path}/' if f'{module}.__init__' in sources else f'{path}.py'


def ImportsOf(module: str, source: str, known: set[str]) -> list[Import]:
    """The imports of a module, those inside functions and those by importlib included.

    Args:
      module: its name, a package's with .__init__.
      source: of the module.
      known: modules of the house: `from a import b` is an import of a.b if that is one of them.
    """
    found = []
    for node in Nodes(source):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = Base(module, node)
            for alias in node.names:
                full = f'{base}.{alias.name}' if base else alias.name
                target = full if full in known else base
                found.append(Import(target, node.lineno, node.level > 0))
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition('.')[2]
            arg = node.args[0]
            if called in ('import_module', '__import__') and isinstance(arg, ast.Constant):
                found.append(Import(str(arg.value), node.lineno, False))
    return found


def Base(module: str, node: ast.ImportFrom) -> str:
    """What a `from` in a module imports from, dots in front resolved."""
    base = node.module or ''
    if not node.level:
        return base
    above = module.split('.')[: -node.level]
    return '.'.join([*above, base] if base else above)


def Imports(sources: Mapping[str, str]) -> dict[str, list[Import]]:
    """{module: its imports}."""
    known = {Module(name) for name in sources}
    return {name: ImportsOf(name, source, known) for name, source in sources.items()}


def Own(imports: Mapping[str, list[Import]]) -> Iterator[tuple[str, Import]]:
    """(module, Import) of the imports that stay in the house."""
    for module, found in imports.items():
        for each in found:
            if each.target.split('.')[0] in ('lingvo_lite', 'tasks', 'tools'):
                yield module, each


def RoomOf(module: str) -> Optional[Room]:
    """The room of a module; None if it has no place."""
    parts = Module(module).split('.')
    if parts == ['lingvo_lite']:
        return ROOMS['lingvo_lite']
    for depth in range(len(parts), 1, -1):
        room = ROOMS.get('.'.join(parts[:depth]))
        if room is not None:
            # A family is a room of its own.
            return Room(room.floor, '/'.join(parts[1:3])) if room.name == 'tasks' else room
    return None


def MayImport(own: Room, other: Room) -> bool:
    """Whether modules of a room may import from another one."""
    if own == other or other.floor < own.floor:
        return True
    if own.floor == other.floor:
        # What all families share is the package that they lie in.
        return other.name == 'tasks' or other.name in NEIGHBOURS.get(own.name, ())
    return False
