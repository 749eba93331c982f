"""Starting a run from the weights of another checkpoint."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.runs import tables, vocabulary as vocabularies
from lingvo_lite.runs.checkpoints import lookup, tensors

_log = logging.getLogger(__name__)


class Report(NamedTuple):
    """What became of each variable."""

    loaded: dict[str, str]  # {variable: name in the checkpoint}
    kept: list[str]  # variables that keep their initial values
    unused: list[str]  # weights of the checkpoint that nothing was loaded from
    table: str  # all of it, for the log


def Load(
    train: hyperparams.Params,
    variables: Mapping[str, tf.Variable],
    token_axes: Optional[Mapping[str, int]] = None,
    vocabulary: Optional[vocabularies.Vocabulary] = None,
) -> Report:
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
        init_from_tokens: 'same' if ids must mean the same in both runs; 'by_text' to take the
          entries of those tokens that both have, the others staying as initialized.
      variables: {path: variable}, usually `task.AllVariables()`.
      token_axes: {path: the axis with an entry for each token}, of those that have one.
      vocabulary: what the ids of this run mean; None if it has no tokens.

    Returns:
      What was done, which is logged too.

    Raises:
      hyperparams.ConfigError: if a rule is no rule, or the other run has other tokens.
      FileNotFoundError: if there is no checkpoint.
      tensors.MismatchError: with a table, if a variable is missing or has another shape, or a
        rule or a pattern matches no variable.
      tensors.CorruptError: if the checkpoint cannot be read.
    """
    _CheckRules(train)
    prefix = lookup.Resolve(train.init_from)
    contents = tensors.Contents(prefix)
    sources = _Sources(train, sorted(variables), contents)
    of_tokens = {path: axis for path, axis in (token_axes or {}).items() if sources.get(path)}
    origins = _Origins(train, prefix, vocabulary) if of_tokens else None
    if origins is None:
        of_tokens = {}
    report = _Plan(train, prefix, variables, sources, contents, of_tokens)
    values = tensors.ReadEach(prefix, sorted(set(report.loaded.values())), contents)
    takers: dict[str, list[str]] = {}
    for path, name in report.loaded.items():
        takers.setdefault(name, []).append(path)
    for name, value in values:
        for path in takers[name]:
            if path in of_tokens:
                value = _ByToken(variables[path].numpy(), value.numpy(), of_tokens[path], origins)
            variables[path].assign(tf.cast(value, variables[path].dtype))
    for line in report.table.split('\n'):
        _log.info('%s', line)
    return report


def _Origins(
    p: hyperparams.Params, prefix: str, mine: Optional[vocabularies.Vocabulary]
) -> Optional[np.ndarray]:
    """For each token the id that it has in the run of a checkpoint, -1 if it has none.

    None if both runs have one vocabulary, or one of them has not said what it is.
    """
    run = vocabularies.RunOf(prefix)
    theirs = vocabularies.Read(run)
    if mine is None or theirs is None or theirs.fingerprint == mine.fingerprint:
        return None
    what = (
        f'init_from: {run} was trained with the vocabulary {theirs.fingerprint}, this run has '
        f'{mine.fingerprint}: their ids mean other tokens.'
    )
    if not theirs.tokens or not mine.tokens:
        raise hyperparams.Fail(
            p, f'{what} What the tokens are is not known, so use one tokenizer.', 'init_from'
        )
    origins = vocabularies.SameTokens(mine.tokens, theirs.tokens)
    both = f'{(origins >= 0).sum():,} of {len(mine.tokens):,} tokens are in both'
    if p.init_from_tokens == 'same':
        raise hyperparams.Fail(
            p,
            f'{what} {both}: task.train.init_from_tokens=by_text takes what was learnt of these, '
            'and leaves the others as initialized.',
            'init_from',
        )
    _log.info('%s.', both)
    return origins


def _ByToken(
    mine: np.ndarray, theirs: np.ndarray, axis: int, origins: Optional[np.ndarray]
) -> np.ndarray:
    """`mine` with the entries along `axis` of those tokens that `theirs` has too."""
    assert origins is not None
    result = np.moveaxis(mine.copy(), axis, 0)
    known = np.flatnonzero(origins >= 0)
    result[known] = np.moveaxis(theirs, axis, 0)[origins[known]]
    return np.moveaxis(result, 0, axis)


def _CheckRules(p: hyperparams.Params) -> None:
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


def _CheckRegex(p: hyperparams.Params, where: str, key: str, pattern: Any) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise hyperparams.Fail(
            p, f'{where}: {pattern!r} is no regular expression: {error}.', key
        ) from None


def _Sources(
    p: hyperparams.Params, paths: list[str], contents: Mapping[str, tensors.Entry]
) -> dict[str, str]:
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
    p: hyperparams.Params,
    prefix: str,
    variables: Mapping[str, tf.Variable],
    sources: Mapping[str, str],
    contents: Mapping[str, tensors.Entry],
    of_tokens: Mapping[str, int],
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
        elif not _Fits(found, wanted, of_tokens.get(path)):
            state = 'DOES NOT FIT'
            wrong += 1
        else:
            state = 'loaded by token' if path in of_tokens else 'loaded'
            loaded[path] = source
        rows.append((path, source or '-', *tensors.ShowEntries(wanted, found), state))
    used = {tensors.WithoutEma(name) for name in loaded.values()}
    unused = [name for name in contents if tensors.IsWeight(name) and name not in used]
    rows += [('-', name, *tensors.ShowEntries(None, contents[name]), 'unused') for name in unused]
    header = ('variable', 'name in the checkpoint', 'wanted shape', 'found shape', '')
    if wrong:
        bad = [row for row in rows if row[-1] in ('MISSING', 'DOES NOT FIT', 'unused')]
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


def _MayMiss(p: hyperparams.Params, path: str) -> bool:
    return any(re.fullmatch(pattern, path) for pattern in p.init_from_missing_ok)


def _Fits(found: tensors.Entry, wanted: tensors.Entry, of_tokens: Optional[int]) -> bool:
    """Whether an entry can be loaded; along the axis of tokens it may have another length."""
    shapes = [list(entry.shape) for entry in (found, wanted)]
    if of_tokens is not None and len(shapes[0]) == len(shapes[1]):
        for shape in shapes:
            del shape[of_tokens]
    return shapes[0] == shapes[1] and _Converts(found.dtype, wanted.dtype)


def _Converts(found: tf.DType, wanted: tf.DType) -> bool:
    return found == wanted or (found.is_floating and wanted.is_floating)
