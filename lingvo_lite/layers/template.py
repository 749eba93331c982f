"""Templates of children, and what their parent decides about them."""

from __future__ import annotations

from typing import Any

from lingvo_lite import hyperparams


def handed(
    p: hyperparams.Params, part: str, *keys: str, **values: Any
) -> hyperparams.InstantiableParams[Any]:
    """A copy of the template p.<part> with `keys` as in p, and `values`.

    Raises:
      hyperparams.ConfigError: if the template has a value of its own for one of them.
    """
    template: hyperparams.InstantiableParams[Any] = p.Get(part)
    wanted = {**{key: p.Get(key) for key in keys}, **values}
    for key, value in wanted.items():
        own = template.Get(key)
        if own not in (template.Default(key), value):
            raise hyperparams.Fail(
                template,
                f'{key}={own} has no effect: the {p.cls.__name__} around it decides. '
                f'Set {key} there.',
                key,
            )
    return template.Copy().Set(**wanted)
