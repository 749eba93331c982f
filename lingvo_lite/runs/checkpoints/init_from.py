"""Starting a run from the weights of another checkpoint."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.runs import tables
from lingvo_lite.runs.checkpoints import lookup, tensors

_log = logging.getLogger(__name__)


class Report(NamedTuple):
    """What became of each variable."""

    loaded: dict[str, str]  # {variable: name in the checkpoint}
    kept: list[str]  # variables that keep their initial values
    unused: list[str]  # weights of the checkpoint that nothing was loaded from
    table: str  # all of it, for the log


def Load(train: Any, variables: Mapping[str, tf.Variable]) -> Report:
    r"""Loads variables from a checkpoint, strictly: what is not loaded has to be asked for.

    Nothing is assigned unless all fits. Moving averages are taken where the checkpoint has them.

    Args:
      train: Params `task.train`, of which these count:
        init_from: a prefix such as RUN/train/ckpt-00001000, a folder of checkpoints, or a log
          directory.
        init_from_rules: pairs (regex, name): a variable whose whole path matches is loaded from
          that name, in which \1 stands for the first group. The first match counts; an empty
          name keeps the variable's initial value; without a match the name is the same.
        init_from_missing_ok: regexes; variables whose whole path matches may be missing.
      variables: {path: variable}, usually `task.AllVariables()`.

    Returns:
      What was done, which is logged too.

    Raises:
      hyperparams.ConfigError: if a rule is no rule.
      FileNotFoundError: if there is no checkpoint.
      tensors.MismatchError: with a table, if a variable is missing or has another shape, or a
        rule or a pattern matches no variable.
      tensors.CorruptError: if the checkpoint cannot be read.
    """
    _CheckRules(train)
    prefix = lookup.Resolve(train.init_from)
    contents = tensors.Contents(prefix)
    sources = _Sources(train, sorted(variables), contents)
    report = _Plan(train, prefix, variables, sources, contents)
    values = tensors.ReadEach(prefix, sorted(set(report.loaded.values())), contents)
    takers: dict[str, list[str]] = {}
    for path, name in report.loaded.items():
        takers.setdefault(name, []).append(path)
    for name, value in values:
        for path in takers[name]:
            variables[path].assign(tf.cast(value, variables[path].dtype))
    for line in report.table.split('\n'):
        _log.info('%s', line)
    return report


def _CheckRules(p: Any) -> None:
    rules, may_miss = 'init_from_rules', 'init_from_missing_ok'
    for i, rule in enumerate(p.init_from_rules):
        pair = isinstance(rule, (list, tuple)) and len(rule) == 2
        hyperparams.Require(p, pair, f'{rules}[{i}]', 'a pair (regex, name)')
        pattern = _CheckRegex(p, f'{rules}[{i}]', rules, rule[0])
        try:
            pattern.sub(rule[1], '')  # reads the replacement even where nothing matches
        except (re.error, IndexError, TypeError) as error:
            raise hyperparams.Fail(
                p, f'{rules}[{i}]: {rule[1]!r} cannot replace {rule[0]!r}: {error}.', rules
            ) from None
    for i, pattern in enumerate(p.init_from_missing_ok):
        _CheckRegex(p, f'{may_miss}[{i}]', may_miss, pattern)


def _CheckRegex(p: Any, where: str, key: str, pattern: Any) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise hyperparams.Fail(
            p, f'{where}: {pattern!r} is no regular expression: {error}.', key
        ) from None


def _Sources(p: Any, paths: list[str], contents: Mapping[str, tensors.Entry]) -> dict[str, str]:
    """{variable: name in the checkpoint, or '' if it keeps its initial value}."""
    unmatched = set(range(len(p.init_from_rules)))
    sources = {}
    for path in paths:
        source = path
        for i, (pattern, name) in enumerate(p.init_from_rules):
            match = re.fullmatch(pattern, path)
            if match:
                source = match.expand(name)
                unmatched.discard(i)
                break
        ema = tensors.EmaOf(source)
        sources[path] = ema if source and ema in contents else source
    idle = [p.init_from_rules[i][0] for i in sorted(unmatched)]
    idle += [x for x in p.init_from_missing_ok if not any(re.fullmatch(x, path) for path in paths)]
    if idle:
        raise tensors.MismatchError(
            f'task.train.init_from: {idle[0]!r} is the first match of none of the '
            f'{len(paths)} variables. Their paths look like {", ".join(paths[:3])}.'
        )
    return sources


def _Plan(
    p: Any,
    prefix: str,
    variables: Mapping[str, tf.Variable],
    sources: Mapping[str, str],
    contents: Mapping[str, tensors.Entry],
) -> Report:
    """Decides about every variable; MismatchError if one does not fit."""
    loaded: dict[str, str] = {}
    kept: list[str] = []
    wrong = 0
    rows: list[tuple[str, str, str, str, str]] = []
    for path, source in sources.items():
        wanted = tensors.Entry(
            tuple(variables[path].shape.as_list()), tf.as_dtype(variables[path].dtype)
        )
        found = contents.get(source)
        if not source or (found is None and _MayMiss(p, path)):
            state = 'keeps its initial value'
            kept.append(path)
        elif found is None:
            state = 'MISSING'
            wrong += 1
        elif found.shape != wanted.shape or not _Converts(found.dtype, wanted.dtype):
            state = 'DOES NOT FIT'
            wrong += 1
        else:
            state = 'loaded'
            loaded[path] = source
        rows.append((path, source or '-', *tensors.ShowEntries(wanted, found), state))
    used = {tensors.WithoutEma(name) for name in loaded.values()}
    unused = [name for name in contents if tensors.IsWeight(name) and name not in used]
    rows += [('-', name, *tensors.ShowEntries(None, contents[name]), 'unused') for name in unused]
    header = ('variable', 'name in the checkpoint', 'wanted shape', 'found shape', '')
    if wrong:
        bad = [row for row in rows if row[-1] not in ('loaded', 'keeps its initial value')]
        verb = 'does' if wrong == 1 else 'do'
        raise tensors.MismatchError(
            f'{tables.Format(header, bad)}\n'
            f'{wrong} of {len(variables)} variables {verb} not match {prefix}. Rename with '
            'task.train.init_from_rules, a rule with an empty name leaves a variable as it '
            'is, or list what may be missing in task.train.init_from_missing_ok.'
        )
    table = (
        f'{tables.Format(header, rows)}\n'
        f'From {prefix}: {len(loaded)} of {len(variables)} variables loaded, {len(kept)} left '
        f'as initialized; weights of the checkpoint that were not used: {len(unused)}.'
    )
    return Report(loaded, kept, unused, table)


def _MayMiss(p: Any, path: str) -> bool:
    return any(re.fullmatch(pattern, path) for pattern in p.init_from_missing_ok)


def _Converts(found: tf.DType, wanted: tf.DType) -> bool:
    return found == wanted or (found.is_floating and wanted.is_floating)
