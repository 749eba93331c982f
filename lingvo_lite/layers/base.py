"""BaseLayer: a tf.Module that is made from Params.

A layer creates its variables and children in `__init__`, through `CreateVariable` and
`CreateChild` only, and computes in `FProp`:

- `self.vars.w` is the float32 variable.
- `self.theta.w` is the variable as the forward pass sees it: with variational noise or its moving
  average, whichever is on, and in the compute type. It is read anew each time: a value must not be
  kept across a function boundary. `self.theta32.w` is the same before the cast.
- Keras layers that are made in `__init__` get the Keras policy of the layer's precision.
- A variable's path, e.g. 'encoder/layers_0/attention/query/w', is its name in checkpoints, filters
  and messages. It is relative to the root layer, whose own path is ''.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Callable, TypeVar

import tensorflow as tf

from lingvo_lite import dtype_policy, hyperparams, step
from lingvo_lite.hyperparams import Self
from lingvo_lite.layers import initializers
from lingvo_lite.layers.variables import (
    Bias as Bias,
    Hoisted as Hoisted,
    LoopValue as LoopValue,
    Scale as Scale,
    Theta,
    Vars,
    Weight as Weight,
)

_build = threading.local()  # .path of the layer being built, .shapes_only
_NAME = re.compile(r'[a-z][a-z0-9_]*')
_Layer = TypeVar('_Layer', bound='BaseLayer')


@contextlib.contextmanager
def ShapesOnly() -> Iterator[None]:
    """Layers built inside have all their checks and shapes, and no variables: nothing is allocated.

    For counting parameters, and for finding configuration errors before any device is touched.
    """
    before = getattr(_build, 'shapes_only', False)
    _build.shapes_only = True
    try:
        yield
    finally:
        _build.shapes_only = before


class BaseLayer(tf.Module):
    """The base of all layers. See the module's docstring."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """The Params of this layer."""
        p = hyperparams.InstantiableParams(cls)
        p.Define('name', '', 'Name of the layer; its parent sets it.')
        p.Define(
            'fprop_dtype',
            None,
            "Type of the computation; None for the parent's, float32 at the root.",
            type=tf.DType,
        )
        p.Define(
            'params_init',
            None,
            "How variables start (WeightInit); None for the parent's, Xavier at the root.",
            type=hyperparams.Params,
            bound=initializers.WeightInit,
        )
        p.Define(
            'random_seed',
            None,
            "Seed of the initial values; None for the parent's, 0 at the root.",
            type=int,
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises hyperparams.Fail(p, ...) if values do not fit each other. Sees Params only."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if 'FProp' in cls.__dict__:
            cls.FProp = _Observed(cls.__dict__['FProp'])  # type: ignore[method-assign]
        if '__init__' in cls.__dict__:
            cls.__init__ = _Locking(cls.__dict__['__init__'])  # type: ignore[method-assign]

    def __init__(self, params: hyperparams.Params):
        p = params.Copy()
        if p.params_init is None:
            p.params_init = initializers.WeightInit.Xavier()
        set_ = super().__setattr__
        set_('_building', True)
        set_('_layer_path', getattr(_build, 'path', ''))
        super().__init__(name=_Identifier(self._layer_path or p.name or type(self).__name__))
        self.params = p.Freeze()
        self.dtype = p.fprop_dtype or tf.float32
        self._weights: dict[str, Weight] = {}
        self._children: dict[str, BaseLayer] = {}
        self._variables: dict[str, tf.Variable] = {}
        self.vars = Vars(self, self._variables, self._weights)
        self.theta = Theta(self, self._variables, self._weights, cast=True)
        self.theta32 = Theta(self, self._variables, self._weights, cast=False)

    def FProp(self, *args: Any, **kwargs: Any) -> Any:
        """The forward pass."""
        raise NotImplementedError(f'{type(self).__name__} has no FProp.')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.FProp(*args, **kwargs)

    def LoopValues(self) -> dict[str, tf.Tensor]:
        """{name: tensor}, what this layer itself reads in every turn of a loop; see `Hoisted`."""
        return {name: getattr(self.theta, name) for name in self._weights}

    @property
    def path(self) -> str:
        """Where this layer was created, from the root: 'encoder/layers_0'; '' at the root."""
        return self._layer_path

    def PathOf(self, name: str) -> str:
        """The path of one of its variables or children."""
        return f'{self._layer_path}/{name}' if self._layer_path else name

    # Creating.

    def CreateVariable(self, name: str, weight: Weight) -> None:
        """Creates the variable `self.vars.<name>`."""
        self._CheckNew(name)
        self._weights[name] = weight
        if getattr(_build, 'shapes_only', False):
            return
        path = self.PathOf(name)
        init = weight.init if weight.init is not None else self.params.params_init
        value = initializers.InitialValue(init, weight.shape, path, self.params.random_seed or 0)
        self._variables[name] = tf.Variable(
            value,
            trainable=weight.trainable,
            name=_Identifier(path),
            dtype=tf.float32,
            # Statistics are computed alike on all replicas; each writes its own copy.
            synchronization=tf.VariableSynchronization.AUTO,
            aggregation=(
                tf.VariableAggregation.NONE
                if weight.trainable
                else tf.VariableAggregation.ONLY_FIRST_REPLICA
            ),
        )

    def CreateChild(
        self, name: str, params: hyperparams.InstantiableParams[_Layer], **kwargs: Any
    ) -> _Layer:
        """Creates the layer `self.<name>`; it inherits precision, init and seed.

        Args:
          name: of the attribute and of the part of the path.
          params: of the layer.
          **kwargs: for its __init__: layers that it shares, say.

        Returns:
          The layer.
        """
        self._CheckNew(name)
        child = self._Build(name, params, kwargs)
        self._Register(name, child)
        object.__setattr__(self, name, child)
        return child

    def CreateChildren(
        self, name: str, params: Sequence[hyperparams.InstantiableParams[_Layer]]
    ) -> tuple[_Layer, ...]:
        """Creates the layers `self.<name>[i]`, at paths <name>_0, <name>_1, ..."""
        self._CheckNew(name)
        children = []
        for i, each in enumerate(params):
            child = self._Build(f'{name}_{i}', each, {})
            self._Register(f'{name}_{i}', child)
            children.append(child)
        object.__setattr__(self, name, tuple(children))
        return tuple(children)

    def MarkTokens(self, **axes: int) -> None:
        """Says which axis of a variable of this layer has an entry for each token (`Weight`).

        For a parent that uses a layer for its logits: `self.logits.MarkTokens(w=1, b=0)`. Names
        that this layer has no variable of are passed over.
        """
        for name, axis in axes.items():
            if name in self._weights:
                self._weights[name] = dataclasses.replace(self._weights[name], tokens=axis)

    def ShareChild(self, name: str, layer: BaseLayer) -> None:
        """Makes a layer that was created elsewhere known as `self.<name>` (tied weights)."""
        self._CheckNew(name)
        object.__setattr__(self, name, layer)

    # Asking.

    def Descendants(self) -> Iterator[BaseLayer]:
        """This layer and all that were created below it, in order of creation."""
        yield self
        for child in self._children.values():
            yield from child.Descendants()

    def AllVariables(self) -> dict[str, tf.Variable]:
        """{path: variable} of this layer and below, sorted by path."""
        found = {
            layer.PathOf(name): variable
            for layer in self.Descendants()
            for name, variable in layer._variables.items()
        }
        return dict(sorted(found.items()))

    def TrainableVariables(self) -> dict[str, tf.Variable]:
        """{path: variable} of those that the learner updates, sorted by path."""
        weights = self.Weights()
        return {p: v for p, v in self.AllVariables().items() if weights[p].trainable}

    def Weights(self) -> dict[str, Weight]:
        """{path: Weight}, sorted by path; also under `ShapesOnly`."""
        found = {
            layer.PathOf(name): weight
            for layer in self.Descendants()
            for name, weight in layer._weights.items()
        }
        return dict(sorted(found.items()))

    def TokenAxes(self) -> dict[str, int]:
        """{path: the axis with an entry for each token}, of the variables that have one."""
        found = {path: weight.tokens for path, weight in self.Weights().items()}
        return {path: axis for path, axis in found.items() if axis is not None}

    def RegularizedPaths(self) -> set[str]:
        """Paths of the variables that L1 and L2 may apply to."""
        return {p for p, w in self.Weights().items() if w.trainable and w.regularize}

    def NumParameters(self) -> int:
        """Number of trainable scalars; also under `ShapesOnly`."""
        return sum(math.prod(w.shape) for w in self.Weights().values() if w.trainable)

    # Inside.

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith('_'):
            items = value if isinstance(value, (list, tuple)) else [value]
            if any(isinstance(item, BaseLayer) for item in items):
                raise TypeError(
                    f'{type(self).__name__}.{name}: a layer is created with '
                    f'self.CreateChild({name!r}, params), not stored as an attribute. '
                    'To share one, use self.ShareChild.'
                )
        super().__setattr__(name, value)

    def _CheckNew(self, name: str) -> None:
        if not self._building:
            raise RuntimeError(
                f'{type(self).__name__}: {name!r} is created after __init__; '
                'children and variables are created in __init__ only.'
            )
        if not _NAME.fullmatch(name):
            raise ValueError(f'{name!r} is no name for a child or variable: use {_NAME.pattern}.')
        if name in self._weights or name in self._children or hasattr(self, name):
            raise ValueError(f'{type(self).__name__} at {self.path!r} already has a {name!r}.')

    def _Build(
        self, name: str, params: hyperparams.InstantiableParams[_Layer], kwargs: dict[str, Any]
    ) -> _Layer:
        p = params.Copy()
        if not isinstance(p, hyperparams.InstantiableParams) or not issubclass(p.cls, BaseLayer):
            raise TypeError(f'{self.PathOf(name)}: Params of a layer are wanted, got {params!r}.')
        p.name = name
        for key in ('fprop_dtype', 'params_init', 'random_seed'):
            if p.Get(key) is None and self.params.Get(key) is not None:
                setattr(p, key, self.params.Get(key))
        path = self.PathOf(name)
        if not p.Path():  # It stands nowhere in the configuration: the parent made it.
            p.SetLabel(path.replace('/', '.'))
        before = getattr(_build, 'path', '')
        _build.path = path
        try:
            return p.Instantiate(**kwargs)
        finally:
            _build.path = before

    def _Register(self, name: str, child: BaseLayer) -> None:
        if name in self._children or name in self._weights:
            raise ValueError(f'{type(self).__name__} at {self.path!r} already has a {name!r}.')
        self._children[name] = child


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


def Remat(layer: BaseLayer, *args: Any) -> Any:
    """`layer.FProp(*args)`, computed again in the backward pass instead of being kept.

    Args:
      layer: any layer.
      *args: tensors or None. Gradients go to those of a floating type.

    Returns:
      What FProp returns. The gradients are those of FProp: draws of dropout are the same in the
      second computation.
    """
    # recompute_grad watches all that it is given, and warns about what has no gradient.
    watched = [tf.is_tensor(arg) and arg.dtype.is_floating for arg in args]

    def Forward(*floats: Any) -> Any:
        rest = iter(floats)
        return layer.FProp(*[next(rest) if w else arg for arg, w in zip(args, watched)])

    forward = tf.recompute_grad(step.Current().Repeatable(Forward))
    return forward(*[arg for arg, w in zip(args, watched) if w])


def _Observed(fprop: Callable[..., Any]) -> Callable[..., Any]:
    """FProp under the layer's name in profiles, shown to the step's observer."""

    @functools.wraps(fprop)
    def FProp(self: BaseLayer, *args: Any, **kwargs: Any) -> Any:
        with tf.name_scope(self.params.name or type(self).__name__.strip('_')):
            outputs = fprop(self, *args, **kwargs)
        observer = step.Current().observer
        return outputs if observer is None else observer(self.path, outputs)

    return FProp


def _Locking(init: Callable[..., None]) -> Callable[..., None]:
    """__init__ behind which, once the outermost is done, nothing can be created.

    Keras layers that are made in it compute in the type of this layer.
    """

    @functools.wraps(init)
    def Init(self: BaseLayer, params: hyperparams.Params, *args: Any, **kwargs: Any) -> None:
        if type(self).__init__ is not Init:
            init(self, params, *args, **kwargs)
            return
        with dtype_policy.OfKeras(params.fprop_dtype or tf.float32):
            init(self, params, *args, **kwargs)
        self._building = False

    return Init


def _Identifier(name: str) -> str:
    """A name for tf.Variable and tf.Module: Keras' Adafactor refuses slashes."""
    return re.sub(r'\W', '_', name) or 'layer'
