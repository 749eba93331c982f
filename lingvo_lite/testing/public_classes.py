"""All classes of a kind, for tests that want each of them in a list."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def Below(package: Any, base: type) -> dict[str, Any]:
    """The public classes of a kind that the modules of a package define, wings included.

    Args:
      package: the package, imported.
      base: what they are subclasses of; it is found too.

    Returns:
      {'package.module.Class': class}.
    """
    found = {}
    for each in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        for name, value in vars(importlib.import_module(each.name)).items():
            if (
                isinstance(value, type)
                and issubclass(value, base)
                and value.__module__ == each.name
                and not name.startswith('_')
            ):
                found[f'{each.name}.{name}'] = value
    return found
