"""All classes of a kind, for tests that want each of them in a list."""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Iterator
from typing import Any


def Modules(package: Any) -> Iterator[types.ModuleType]:
    """The modules of a package that is imported, wings included, in the order of their names."""
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        yield importlib.import_module(found.name)


def Below(package: Any, base: type) -> dict[str, Any]:
    """The public classes of a kind that the modules of a package define, wings included.

    Args:
      package: the package, imported.
      base: what they are subclasses of; it is found too.

    Returns:
      {'package.module.Class': class}.
    """
    found = {}
    for module in Modules(package):
        for name, value in vars(module).items():
            if (
                isinstance(value, type)
                and issubclass(value, base)
                and value.__module__ == module.__name__
                and not name.startswith('_')
            ):
                found[f'{module.__name__}.{name}'] = value
    return found
