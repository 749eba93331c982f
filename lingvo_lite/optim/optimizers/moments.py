"""Params of the moving averages that optimizers keep, and of what keeps a division finite."""

from __future__ import annotations

from lingvo_lite import hyperparams

Decay = tuple[float, str]  # its default, and what it is


def DefineBetas(
    p: hyperparams.Params,
    beta1: Decay = (0.9, 'Decay of the mean of gradients.'),
    beta2: Decay = (0.999, 'Decay of the mean of squared gradients.'),
) -> None:
    """Adds beta1 and beta2."""
    p.Define('beta1', *beta1)
    p.Define('beta2', *beta2)


def DefineEpsilon(
    p: hyperparams.Params,
    value: float,
    to: str = 'the root in the denominator',
    name: str = 'epsilon',
) -> None:
    """Adds what is added `to` a number that could be 0."""
    p.Define(name, value, f'Added to {to}.')


def Check(p: hyperparams.Params) -> None:
    """Raises ConfigError unless beta1 and beta2 are in [0, 1), and epsilon is at least 0."""
    hyperparams.RequireRange(p, 'beta1', 'beta2', at_least=0, below=1)
    if 'epsilon' in p:
        hyperparams.RequireRange(p, 'epsilon', at_least=0)
