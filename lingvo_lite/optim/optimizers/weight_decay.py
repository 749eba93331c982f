"""Decoupled weight decay: weights shrink beside the gradient's update, not through it."""

from __future__ import annotations

import re

import tensorflow as tf

from lingvo_lite import hyperparams

# Biases, and everything in a layer that normalises.
_BIAS_AND_NORM = r'(^|/)(b|bias)$|norm'


def Define(p: hyperparams.Params) -> None:
    """Adds weight_decay and weight_decay_exclusion."""
    p.Define('weight_decay', 0.0, 'Share of a weight that is taken off, times the learning rate.')
    p.Define(
        'weight_decay_exclusion',
        _BIAS_AND_NORM,
        "Regex (search) of variable paths that do not decay; '' for none.",
    )


def Check(p: hyperparams.Params) -> None:
    """Raises ConfigError unless the decay is at least 0 and the exclusion is a regex."""
    hyperparams.RequireRange(p, 'weight_decay', at_least=0)
    try:
        re.compile(p.weight_decay_exclusion)
    except re.error as error:
        raise hyperparams.Fail(
            p,
            f'weight_decay_exclusion={p.weight_decay_exclusion!r} is no regex: {error}.',
            key='weight_decay_exclusion',
        ) from None


def Of(p: hyperparams.Params, path: str) -> float:
    """The decay of the variable at `path`; 0.0 if it is excluded."""
    excluded = p.weight_decay_exclusion and re.search(p.weight_decay_exclusion, path)
    return 0.0 if excluded else p.weight_decay


def Apply(
    p: hyperparams.Params, variable: tf.Variable, learning_rate: tf.Tensor, path: str
) -> None:
    """w <- w - a weight_decay w, unless the path is excluded."""
    decay = Of(p, path)
    if decay:
        variable.assign_sub(learning_rate * decay * variable, read_value=False)
