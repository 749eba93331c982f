"""Which variables are trained, on which terms of the loss, by which optimizer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams


@dataclasses.dataclass
class Group:
    """Variables with an optimizer.

    Attributes:
      name: '' for the only one.
      loss_terms: sorted names; () for all terms.
      variables: {path: variable}.
      optimizer: an optim.optimizers.BaseOptimizer.
      schedule: learning rate / `learning_rate` as a function of the updates.
      learning_rate: factor of the schedule.
    """

    name: str
    loss_terms: tuple[str, ...]
    variables: dict[str, tf.Variable]
    optimizer: Any
    schedule: Any
    learning_rate: float


def TrainedPaths(train: Any, paths: Sequence[str]) -> list[str]:
    """The paths that `bprop_variable_filter` and `bprop_variable_exclusion` leave to train.

    Args:
      train: Params `task.train`.
      paths: of all trainable variables.

    Raises:
      hyperparams.ConfigError: if a regex matches nothing, or nothing is left.
    """
    kept = Matching(train, 'bprop_variable_filter', paths)
    if train.bprop_variable_exclusion:
        excluded = set(Matching(train, 'bprop_variable_exclusion', paths))
        kept = [path for path in kept if path not in excluded]
    if not kept:
        raise hyperparams.Fail(
            train,
            f'bprop_variable_exclusion={train.bprop_variable_exclusion!r} leaves no variable '
            f'to train of those that bprop_variable_filter={train.bprop_variable_filter!r} finds.',
            key='bprop_variable_exclusion',
        )
    return kept


def Matching(params: Any, key: str, paths: Sequence[str]) -> list[str]:
    """The paths in which the regex `params.<key>` is found.

    Raises:
      hyperparams.ConfigError: if it is no regex, or is found in none.
    """
    pattern = params.Get(key)
    try:
        found = [path for path in paths if re.search(pattern, path)]
    except re.error as error:
        message = f'{key}={pattern!r} is no regular expression: {error}.'
        raise hyperparams.Fail(params, message, key=key) from None
    if not found:
        raise hyperparams.Fail(
            params,
            f'{key}={pattern!r} matches none of {len(paths)} variables: {_Some(paths)}.',
            key=key,
        )
    return found


def MakeGroups(train: Any, variables: dict[str, tf.Variable]) -> list[Group]:
    """The groups that `task.train` describes; their optimizers are not built yet.

    Args:
      train: Params `task.train`.
      variables: {path: variable} of those that are trained.

    Raises:
      hyperparams.ConfigError: if a variable is in no group or in several, if a group is empty, or
        if two have the same name.
    """
    if not train.learners:
        return [
            Group(
                name='',
                loss_terms=(),
                variables=variables,
                optimizer=train.optimizer.Instantiate(),
                schedule=train.lr_schedule.Instantiate(),
                learning_rate=train.learning_rate,
            )
        ]
    groups: list[Group] = []
    members: dict[str, list[str]] = {path: [] for path in variables}
    for p in train.learners:
        missing = p.Missing()
        if missing:
            raise hyperparams.Fail(p, f'{missing[0][0]} must be set.')
        if any(group.name == p.name for group in groups):
            raise hyperparams.Fail(train, f'two learners have the name {p.name!r}.', key='learners')
        fits = re.fullmatch(r'[a-z_][a-z0-9_]*', p.name) is not None
        hyperparams.Require(p, fits, 'name', 'an identifier')
        paths = Matching(p, 'variable_filter', list(variables))
        for path in paths:
            members[path].append(p.name)
        groups.append(
            Group(
                name=p.name,
                loss_terms=tuple(sorted(p.loss_terms)),
                variables={path: variables[path] for path in paths},
                optimizer=p.optimizer.Instantiate(),
                schedule=p.lr_schedule.Instantiate(),
                learning_rate=p.learning_rate,
            )
        )
    none = [path for path, names in members.items() if not names]
    several = [f'{path} ({", ".join(names)})' for path, names in members.items() if len(names) > 1]
    if none or several:
        raise hyperparams.Fail(
            train,
            'every trained variable belongs to exactly one of learners. '
            f'In none: {_Some(none) or "-"}. In several: {_Some(several) or "-"}. '
            'Exclude those not to be trained with bprop_variable_exclusion.',
            key='learners',
        )
    return groups


def _Some(names: Sequence[str], most: int = 20) -> str:
    shown = ', '.join(names[:most])
    return f'{shown} and {len(names) - most} more' if len(names) > most else shown
