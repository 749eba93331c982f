"""What values must be, alone or beside each other: for `Check(p)` of whatever has Params.

hyperparams.Fail, hyperparams.Require and hyperparams.RequireRange are these.
"""

from __future__ import annotations

from typing import Any, Optional

from lingvo_lite.configuration.errors import ConfigError, SetAt


def Fail(params: Any, message: str, key: str = '') -> ConfigError:
    """A ConfigError with the path of `params` in front, and where `key` was set behind.

    Use as `raise hyperparams.Fail(p, 'num_heads=6 does not divide model_dim=256.')`.
    """
    path = params.Path()
    text = f'{path}: {message}' if path else message
    return ConfigError(f'{text} {SetAt(params.Source(key))}' if key else text)


def Require(params: Any, holds: bool, key: str, expected: str) -> None:
    """Raises ConfigError unless `holds`, with the value of `key` and what it must be.

    Use as `hyperparams.Require(p, p.beam_size >= 1, 'beam_size', 'at least 1')`.
    """
    if not holds:
        raise Fail(params, f'{key}={params.Get(key)!r} must be {expected}.', key)


def RequireRange(
    params: Any,
    *keys: str,
    at_least: Optional[float] = None,
    above: Optional[float] = None,
    at_most: Optional[float] = None,
    below: Optional[float] = None,
    note: str = '',
) -> None:
    """`Require` for numbers, several at once; the message is made of the bounds.

    Use as `hyperparams.RequireRange(p, 'beta1', 'beta2', at_least=0, below=1)`.

    Args:
      params: the Params.
      *keys: of numbers. A None is not looked at; of a list or tuple each item is.
      at_least, above, at_most, below: the bounds, where there are any.
      note: what else is to be said, in brackets: what to do instead, say.
    """
    bounds = {'at least': at_least, 'above': above, 'at most': at_most, 'below': below}
    wanted = ' and '.join(f'{word} {bound}' for word, bound in bounds.items() if bound is not None)
    for key in keys:
        value = params.Get(key)
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            items = {f'{key}[{i}]': item for i, item in enumerate(value)}
        else:
            items = {key: value}
        for path, item in items.items():
            holds = (
                isinstance(item, (int, float))
                and (at_least is None or item >= at_least)
                and (above is None or item > above)
                and (at_most is None or item <= at_most)
                and (below is None or item < below)
            )
            Require(params, holds, path, f'{wanted} ({note})' if note else wanted)
