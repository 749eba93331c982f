"""lingvo_lite list [FAMILY]: the experiments."""

from __future__ import annotations

import argparse
from typing import Any

from lingvo_lite import hyperparams, registry
from lingvo_lite.commands import model_flags


def AddTo(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the subparsers."""
    parser = commands.add_parser('list', help='the experiments, of one family or all')
    parser.add_argument('family', nargs='?')
    model_flags.AddImport(parser)
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Prints those of the family, or all."""
    return Print(*([flags.family] if flags.family else []))


def Print(*families: str) -> int:
    """Prints the names of the experiments of these families, or of all; returns the exit code."""
    for family in families:
        if family not in registry.Families():
            known = ', '.join(registry.Families())
            raise hyperparams.ConfigError(f'No family {family!r}. Families: {known}.')
    for name in registry.List(*families):
        print(name)
    return 0
