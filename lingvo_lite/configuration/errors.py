"""Mistakes in a configuration: what is raised, and how a message says where they were made.

Read it as part of `hyperparams`, from which these names are imported.
"""

from __future__ import annotations

import functools
import os
import re
import sys


class ConfigError(ValueError):
    """A mistake in a configuration. The message is one line that a user can act on."""


class UnknownParamError(ConfigError, AttributeError):
    """A key that the node does not define."""


class ParamTypeError(ConfigError, TypeError):
    """A value of the wrong type."""


class FrozenError(ConfigError, TypeError):
    """A change to frozen Params, such as those that something was built from."""


def SetAt(source: str) -> str:
    """The end of a message: what has set the value."""
    return f'Set {"at" if re.search(r":[0-9]+$", source) else "by"} {source}.'


@functools.cache
def ShownFile(file: str) -> str:
    """A file's name as messages write it: relative if it lies below the working directory."""
    short = os.path.relpath(file) if os.path.isabs(file) else file
    return file if short.startswith('..') else short


def Caller() -> str:
    """file:line of the code that called `Params`: the innermost outside of its files."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _IsOurs(frame.f_globals.get('__name__', '')):
        frame = frame.f_back
    return f'{ShownFile(frame.f_code.co_filename)}:{frame.f_lineno}'


def _IsOurs(module: str) -> bool:
    """Whether a file is one of those that `Params` are made of."""
    return module == 'lingvo_lite.hyperparams' or module.startswith(f'{__package__}.')
