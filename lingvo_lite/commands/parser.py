"""The parser of all commands: mistakes are told in one line."""

from __future__ import annotations

import argparse
import difflib
from typing import Any, NoReturn

from lingvo_lite import hyperparams


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors, near names, and no abbreviated flags.

    A mistake in the flags is a `hyperparams.ConfigError`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def parse_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> argparse.Namespace:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._Unknown(unknown[0]))
        return parsed

    def error(self, message: str) -> NoReturn:
        raise hyperparams.ConfigError(f"{message} ('{self.prog} --help' shows all flags.)")

    def _Unknown(self, given: str) -> str:
        name = given.split('=')[0]
        if not name.startswith('-'):
            return f'What is {given!r} for? Values belong to flags: --flag=value.'
        known = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(name, known, n=2)
        hint = f' Did you mean {" or ".join(near)}?' if near else ''
        return f'No flag {name}.{hint}'
