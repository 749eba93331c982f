"""May a trainer go on with a run? The params in RUN/params.txt against those it starts with."""

from __future__ import annotations

import re
from typing import NamedTuple

from lingvo_lite import hyperparams, literals

_LINE = re.compile(r"""((?:[^\s\[\]]|\[(?:-?\d+|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\])+) : (.*)""")
_SHOWN = 8


class Changes(NamedTuple):
    """What differs, as lines for the log: 'task.train.max_steps 1000 -> 2000'."""

    changed: list[str]
    added: list[str]


def Compare(run: str, old_text: str, params: hyperparams.Params) -> Changes:
    """Compares the params of a run with those that a trainer starts with.

    Args:
      run: the log directory, for messages.
      old_text: RUN/params.txt.
      params: the trainer's root Params, with the experiment's name in `model`.

    Returns:
      The changes that a run allows: of params with resume='free', and params that the code did not
      have when the run started, which must stand at their defaults.

    Raises:
      hyperparams.ConfigError: if the run is of another model, or a param that is fixed differs.
    """
    old, new = _Lines(old_text), _Lines(params.ToText())
    model = ModelOf(run, old_text)
    if 'model' in new and new['model'] != old['model']:
        raise hyperparams.ConfigError(
            f'{run} holds a run of {model}, not of {literals.Parse(new["model"])}. '
            'Use a new --logdir.'
        )
    fixed: list[str] = []
    changed: list[str] = []
    added: list[str] = []
    roots: list[str] = []  # keys that differ; what stands below them belongs to another class
    for key in sorted({*old, *new}):
        if old.get(key) == new.get(key) or _IsBelow(key, roots):
            continue
        free = params.ResumeKind(key) == 'free'
        if key not in new:
            fixed.append(f'{key} {old[key]} (the code has no such param any more)')
        elif key in old:
            change = f'{key} {old[key]} -> {new[key]}'
            (changed if free else fixed).append(change if free else f'{change} (fixed for a run)')
            roots.append(key)
        elif free or _IsDefault(key, params, old):
            added.append(f'{key} {new[key]}')
        else:
            fixed.append(
                f'{key} {new[key]} (added to the code since, so fixed at its default for this run)'
            )
    if fixed:
        listed = ', '.join(fixed[:_SHOWN])
        more = f' and {len(fixed) - _SHOWN} more' if len(fixed) > _SHOWN else ''
        take_back = 'change' if len(fixed) == 1 else 'changes'
        raise hyperparams.ConfigError(
            f'{run} holds a run of {model} with other params: {listed}{more}. '
            f'Use a new --logdir, or take the {take_back} back.'
        )
    return Changes(changed, added)


def ModelOf(run: str, text: str) -> str:
    """The experiment's name in the text of params.txt.

    Raises:
      hyperparams.ConfigError: if there is none.
    """
    try:
        model = literals.Parse(_Lines(text)['model'])
    except (KeyError, literals.LiteralError):
        raise hyperparams.ConfigError(
            f'{run}/params.txt is not the file of a run: it has no line "model : \'...\'". '
            'Use a new --logdir.'
        ) from None
    return str(model)


def _Lines(text: str) -> dict[str, str]:
    matches = (_LINE.fullmatch(line) for line in text.split('\n'))
    return {match[1]: match[2] for match in matches if match}


def _IsBelow(key: str, roots: list[str]) -> bool:
    return any(key.startswith((f'{root}.', f'{root}[')) for root in roots)


def _IsDefault(key: str, params: hyperparams.Params, old: dict[str, str]) -> bool:
    """Whether a key that is not in `old` has its default, or stands in an added part that has."""
    while True:
        if '[' not in key and params.Get(key) == params.Default(key):
            return True
        key = key.rpartition('.')[0]
        if not key or key in old or _HasKeyBelow(key, old):
            return False


def _HasKeyBelow(key: str, lines: dict[str, str]) -> bool:
    return any(_IsBelow(line, [key]) for line in lines)
