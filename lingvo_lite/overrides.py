"""Changes to Params from the command line: --set=a.b=value and --params_file=FILE.

A value is read by the *declared* type of its param: for str the raw text, otherwise a literal.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Sequence
from typing import Any

from lingvo_lite import hyperparams, literals

_SETTING = re.compile(rf'\s*({literals.PATH.pattern})\s*=(.*)', re.DOTALL)


def Apply(
    params: hyperparams.Params, settings: Sequence[str], flag: str = '--set', first: int = 1
) -> None:
    """Applies 'a.b.c=value' settings in order, all or none.

    A template takes the dotted name of a class: --set=task.encoder=my.module.Encoder.

    Args:
      params: to change.
      settings: the texts.
      flag: where they come from, for messages.
      first: the number of the first of them, for messages.

    Raises:
      hyperparams.ConfigError: with the number of the argument, if one does not fit.
    """
    with params.Atomic():
        for number, setting in enumerate(settings, first):
            source = f'{flag}, argument {number}'
            match = _SETTING.fullmatch(setting)
            if not match:
                raise hyperparams.ConfigError(
                    f'{literals.Shown(setting)} is not in the form key=value (from {source}).'
                )
            path, text = match[1], match[2]
            try:
                value = ReadValue(params, path, text)
            except literals.LiteralError as error:
                where = params.Path(path)
                said = hyperparams.SetAt(source)
                raise hyperparams.ParamTypeError(f'{where}: {error}. {said}') from None
            except hyperparams.ConfigError as error:
                raise type(error)(f'{error} (from {source})') from None
            params.SetFrom([(path, value)], source)


def ApplyFile(params: hyperparams.Params, path: str) -> None:
    """Applies a file of 'key : value' lines, all or none.

    Raises:
      hyperparams.ConfigError: if the file is missing or cannot be read, or a line does not fit.
    """
    if not os.path.isfile(path):
        raise hyperparams.ConfigError(f'--params_file: there is no file {os.path.abspath(path)}.')
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise hyperparams.ConfigError(f'--params_file: {path} cannot be read: {error}.') from None
    params.FromText(text, source=path)


def ReadValue(params: hyperparams.Params, path: str, text: str) -> Any:
    """`text` as a value for the param at `path`; still to be checked by `Set`.

    Text that is no literal comes back as it is, for a type that no str fits.

    Raises:
      hyperparams.ConfigError: if there is no such param.
      literals.LiteralError: if the text could be meant, but cannot be read.
    """
    kind = params.Type(path)
    if kind is str:
        return None if text == 'None' and params.Default(path) is None else text
    name = text.strip()
    if name != 'None' and re.fullmatch(r'[A-Za-z_][\w.]*', name):
        if issubclass(kind, hyperparams.Params):
            return literals.ParamsPlaceholder(name)
        if issubclass(kind, enum.Enum) and name in kind.__members__:
            return kind[name]
        if kind.__name__ == 'DType':
            return literals.ReadDType(name)
        if kind is type:
            return literals.FindClass(name)
    try:
        return literals.Parse(text)
    except literals.LiteralError:
        if kind is object or '(' in text:
            raise
        return text
