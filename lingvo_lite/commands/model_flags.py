"""The flags that `lingvo_lite COMMAND MODEL` shares with its like."""

from __future__ import annotations

import argparse


def AddImport(parser: argparse.ArgumentParser) -> None:
    """Adds the modules to import first; every command has it."""
    parser.add_argument('--import', dest='imports', action='append', default=[])


def AddParams(parser: argparse.ArgumentParser, dataset: bool = True) -> None:
    """Adds what changes the params of a model, from which `job_flags.Source` is made.

    Args:
      parser: of the command.
      dataset: whether one of the experiment's datasets is chosen.
    """
    AddImport(parser)
    if dataset:
        parser.add_argument('--dataset', metavar='NAME', default='Train')
    parser.add_argument('--set', metavar='KEY=VALUE', action='append', default=[])
    parser.add_argument('--params_file', metavar='FILE')
    AddDataDir(parser)


def AddDataDir(parser: argparse.ArgumentParser) -> None:
    """Adds the data folder."""
    parser.add_argument('--data_dir', metavar='DIR')
