"""Experiments by name.

    @registry.Register
    class WmtEnDe(experiment.BaseExperiment): ...      # in lingvo_lite/tasks/mt/params/wmt.py

is `mt.WmtEnDe`, and also `lingvo_lite.tasks.mt.params.wmt.WmtEnDe`. A family is found in

- the built-in `lingvo_lite.tasks.<family>`,
- installed packages with an entry point in group `lingvo_lite.tasks` whose name is the family;
  the module that it names is imported, and the modules directly in it,
- any importable `package.module.Class` given as the name.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from typing import Any, Optional, TypeVar

from lingvo_lite import hyperparams

GROUP = 'lingvo_lite.tasks'
_BUILT_IN = 'lingvo_lite.tasks'

_experiments: dict[str, type[Any]] = {}
_C = TypeVar('_C', bound=type)


class ExperimentNotFound(hyperparams.ConfigError):
    """No experiment has this name."""


def Register(cls: _C) -> _C:
    """Class decorator: makes an experiment known as family + class name.

    The family is the package below `lingvo_lite.tasks`, or the name of the entry point that the
    module belongs to, or else the first part of the module's name.

    Raises:
      hyperparams.ConfigError: if another class already has the name. The same class from the same
        file, as in a notebook or on a reload, replaces it.
    """
    if not isinstance(cls, type):
        raise hyperparams.ConfigError(f'@registry.Register stands before a class, got {cls!r}.')
    key = f'{_Family(cls.__module__)}.{cls.__name__}'
    known = _experiments.get(key)
    if known is not None:
        places = [_Place(known), _Place(cls)]
        if _File(known) == _File(cls):
            places = _Definitions(cls)
        if len(places) > 1:
            raise hyperparams.ConfigError(f'{key} is registered twice: {" and ".join(places)}.')
    _experiments[key] = cls
    return cls


def Get(name: str) -> type[Any]:
    """The experiment `name`: 'mt.WmtEnDe' or 'package.module.Class'.

    Raises:
      ExperimentNotFound: with the nearest names.
      hyperparams.ConfigError: if a module that should hold it cannot be imported, or it is no
        experiment.
    """
    module, dot, cls = name.rpartition('.')
    if name.count('.') == 1:
        _ImportFamily(module)
    if name in _experiments:
        return _experiments[name]
    found = getattr(_Import(module), cls, None) if dot else None
    if found is None:
        raise ExperimentNotFound(_NotFound(name))
    if not isinstance(found, type) or not callable(getattr(found, 'Task', None)):
        raise hyperparams.ConfigError(
            f'{name} is no experiment: that is a class with Task() and Train(), such as a subclass '
            'of lingvo_lite.experiment.BaseExperiment.'
        )
    return found


def GetInstalled(name: str) -> type:
    """The experiment that a file names: as `Get`, but no module is imported because of its name.

    Found are experiments of the built-in families and of installed packages, and what this process
    has registered already.

    Raises:
      ExperimentNotFound: if it is none of these.
    """
    if name.count('.') == 1 and name.split('.')[0] in Families():
        _ImportFamily(name.split('.')[0])
    if name in _experiments:
        return _experiments[name]
    raise ExperimentNotFound(
        f'{name} is in no installed family, and a name in a file is not imported. '
        f'Name it: --model={name}.'
    )


def Name(cls: type) -> str:
    """The name by which `Get` finds `cls` in any process."""
    for key, known in _experiments.items():
        if known is cls and _Modules(key.split('.')[0]):
            return key
    return f'{cls.__module__}.{cls.__qualname__}'


def List(family: Optional[str] = None) -> list[str]:
    """The names of all experiments, or of one family, sorted; imports the families it looks at.

    Raises:
      hyperparams.ConfigError: if there is no such family, or a module cannot be imported.
    """
    families = Families()
    if family is not None and family not in families:
        raise ExperimentNotFound(f'No family {family!r}. {_Known(families)}')
    for each in [family] if family else families:
        _ImportFamily(each)
    return sorted(key for key in _experiments if family in (None, key.split('.')[0]))


def Families() -> list[str]:
    """The names of the families that can be found, sorted."""
    built_in = _Import(_BUILT_IN)
    packages = pkgutil.iter_modules(getattr(built_in, '__path__', []))
    families = {package.name for package in packages if package.ispkg}
    return sorted(families | set(_EntryPoints()) | {key.split('.')[0] for key in _experiments})


def _Family(module: str) -> str:
    prefix = _BUILT_IN + '.'
    if module.startswith(prefix):
        return module[len(prefix) :].split('.')[0]
    for family, packages in _EntryPoints().items():
        if any(module == package or module.startswith(package + '.') for package in packages):
            return family
    return module.split('.')[0].strip('_') or module


def _Modules(family: str) -> list[str]:
    """The modules, or packages of them, that may register experiments of this family."""
    found = list(_EntryPoints().get(family, ()))
    if family.isidentifier() and _Import(_BUILT_IN) is not None:
        built_in = f'{_BUILT_IN}.{family}.params'
        if _Import(f'{_BUILT_IN}.{family}') is not None and _Import(built_in) is not None:
            found.append(built_in)
    return found


def _ImportFamily(family: str) -> None:
    """Imports every module of a family that may register an experiment."""
    for name in _Modules(family):
        package = _Import(name)
        if package is None:
            raise hyperparams.ConfigError(
                f'The entry point {family!r} of an installed package names the module {name!r}, '
                'which there is not. Install that package again.'
            )
        for module in pkgutil.iter_modules(getattr(package, '__path__', [])):
            if not module.name.startswith('_'):
                _Import(f'{name}.{module.name}')


def _EntryPoints() -> dict[str, tuple[str, ...]]:
    """Family -> modules, of the installed packages that bring experiments."""
    return _EntryPointsOn(tuple(sys.path))


@functools.lru_cache(maxsize=4)
def _EntryPointsOn(path: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    points: Any = importlib.metadata.entry_points()
    if hasattr(points, 'select'):
        chosen = points.select(group=GROUP)
    else:  # Python 3.9
        chosen = points.get(GROUP, [])
    found: dict[str, tuple[str, ...]] = {}
    for point in chosen:
        modules = {*found.get(point.name, ()), point.value.split(':')[0].strip()}
        found[point.name] = tuple(sorted(modules))
    return found


def _Import(name: str) -> Any:
    """The module; None if there is none of this name.

    Raises:
      hyperparams.ConfigError: if there is one, and it cannot be imported.
    """
    if name in sys.modules:
        return sys.modules[name]
    if not all(part.isidentifier() for part in name.split('.')):
        return None
    try:
        return importlib.import_module(name)
    except hyperparams.ConfigError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(missing + '.')):
            return None
        frames = traceback.extract_tb(error.__traceback__)
        frame = [f for f in frames if 'importlib' not in f.filename or f is frames[0]][-1]
        where = f'{hyperparams.ShownFile(frame.filename)}:{frame.lineno}'
        shown = str(error) if isinstance(error, SyntaxError) else f'{error} ({where})'
        raise hyperparams.ConfigError(
            f'{name} cannot be imported: {type(error).__name__}: {shown}.'
        ) from error


def _File(cls: type) -> str:
    module = cls.__module__
    return getattr(sys.modules.get(module), '__file__', None) or f'<{module}>'


def _Place(cls: type) -> str:
    """file:line of a class."""
    try:
        line = inspect.getsourcelines(cls)[1]
    except (OSError, TypeError, SyntaxError):
        line = 0
    return f'{hyperparams.ShownFile(_File(cls))}:{line}'


def _Definitions(cls: type) -> list[str]:
    """file:line of each class of this name at the top level of the file of `cls`."""
    try:
        with open(_File(cls), encoding='utf-8') as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return []
    shown = hyperparams.ShownFile(_File(cls))
    found = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == cls.__name__]
    return [f'{shown}:{node.lineno}' for node in found]


def _Known(families: list[str]) -> str:
    parts = [f'Families: {", ".join(families)}.'] if families else []
    if _Import(_BUILT_IN) is None:
        parts.append("The built-in tasks are not installed: in a clone, run 'pip install -e .'.")
    return ' '.join(parts)


def _NotFound(name: str) -> str:
    family = name.split('.')[0]
    families = Families()
    try:
        known = List(family if family in families else None)
    except hyperparams.ConfigError:  # A package that cannot be imported is not what was asked for.
        known = sorted(_experiments)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    parts = [f'No experiment {name!r}.']
    if near:
        parts.append(f'Nearest: {", ".join(near)}.')
    if family in families:
        parts.append(f"'lingvo_lite list {family}' shows all {len(known)}.")
    else:
        parts.append(_Known(families))
    return ' '.join(parts)
