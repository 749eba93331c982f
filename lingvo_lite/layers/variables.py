"""The variables of a layer: what they are to be, as they are, and as its forward pass sees them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.layers.initializers import WeightInit


@dataclasses.dataclass(frozen=True)
class Weight:
    """What a variable is to be.

    Attributes:
      shape: its axes.
      init: WeightInit Params; None for the layer's `params_init`.
      trainable: whether the learner updates it.
      regularize: whether L1 and L2 apply to it.
      tokens: the axis whose entries are tokens, one each; None if there is none.
    """

    shape: Sequence[int]
    init: Optional[hyperparams.Params] = None
    trainable: bool = True
    regularize: bool = True
    tokens: Optional[int] = None

    def __post_init__(self) -> None:
        bad = [n for n in self.shape if isinstance(n, bool) or not isinstance(n, int) or n < 0]
        if bad:
            raise hyperparams.ConfigError(f'A variable of shape {list(self.shape)} cannot be.')


def Bias(size: int) -> Weight:
    """A vector that begins with zeros; L1 and L2 leave it alone."""
    return Weight([size], init=WeightInit.Constant(0.0), regularize=False)


def Scale(size: int) -> Weight:
    """A vector that begins with ones; L1 and L2 leave it alone."""
    return Weight([size], init=WeightInit.Constant(1.0), regularize=False)


class Vars:
    """The float32 variables of a layer, as attributes; iterating gives their names."""

    def __init__(
        self, layer: Any, variables: Mapping[str, tf.Variable], weights: Mapping[str, Weight]
    ):
        """Looks at `variables` and `weights`, by name, which `layer` fills."""
        self.__dict__.update(_layer=layer, _variables=variables, _weights=weights)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __getattr__(self, name: str) -> tf.Variable:
        try:
            return self._variables[name]
        except KeyError:
            layer = self._layer
            what = f'{type(layer).__name__} at {layer.path!r}'
            if name in self._weights:
                raise AttributeError(f'{what} was built under ShapesOnly: no variables.') from None
            known = ', '.join(self._weights) or 'none'
            raise AttributeError(f'{what} has no variable {name!r}; it has: {known}.') from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError('Variables are created with CreateVariable.')


class Theta(Vars):
    """The variables of a layer as the forward pass sees them, as attributes."""

    def __init__(
        self,
        layer: Any,
        variables: Mapping[str, tf.Variable],
        weights: Mapping[str, Weight],
        cast: bool,
    ):
        """As `Vars`; `cast` says whether they are of the compute type."""
        super().__init__(layer, variables, weights)
        self.__dict__['_cast'] = cast

    def __getattr__(self, name: str) -> tf.Tensor:
        layer = self._layer
        context = step.Current()
        hoisted = (context.hoisted or {}).get((id(self), name))
        if hoisted is not None:
            return hoisted
        value = super().__getattr__(name)
        if context.substitutes:
            value = context.substitutes.get(value.ref(), value)
        if context.vn_std is not None and context.training and self._weights[name].trainable:
            seed = step.WeightSeed(layer.PathOf(name))
            noise = tf.random.stateless_normal(value.shape, seed)
            value = value + context.vn_std * noise
        return tf.cast(value, layer.dtype) if self._cast and layer.dtype != tf.float32 else value


@contextlib.contextmanager
def Hoisted(layer: Any) -> Iterator[None]:
    """Inside, theta and theta32 of `layer` and of all below it are what they were at the entry.

    For loops (a search, a recurrent network), which would read and cast every variable anew in
    every turn:

        with base.Hoisted(self.decoder):
            tf.while_loop(...)

    Only inside a step context, and not around anything that is differentiated through a function
    boundary (`Remat`, tf.custom_gradient).
    """
    context = step.Current()
    before = context.hoisted
    values = dict(before or {})
    for each in layer.Descendants():
        for name in each.theta32:
            values[id(each.theta32), name] = tf.convert_to_tensor(getattr(each.theta32, name))
        for name, value in each.LoopValues().items():
            values[id(each.theta), name] = tf.convert_to_tensor(value)
    context.hoisted = values
    try:
        yield
    finally:
        context.hoisted = before


def LoopValue(layer: Any, name: str) -> Optional[tf.Tensor]:
    """What `layer.LoopValues()` gave for `name`, inside `Hoisted`; None elsewhere."""
    return (step.Current().hoisted or {}).get((id(layer.theta), name))
