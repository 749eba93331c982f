"""BaseOptimizer: what the learner knows of an optimizer.

An optimizer does not reduce gradients, does not clip them and knows no schedule: the learner does,
once, for all optimizers.

In the formulas of its subclasses, w is a variable, g its gradient, a the learning rate and
t = 1, 2, ... the number of the update.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self

Slots = dict[str, tf.Variable]


class BaseOptimizer:
    """Changes variables by gradients that are finished: summed over replicas, checked, clipped.

        optimizer = p.optimizer.Instantiate()
        with strategy.scope():
            optimizer.Build(variables)
        ...
        optimizer.Apply(grads, learning_rate)

    What it remembers of a variable, its slots, is known by (path of the variable, name of the
    slot): freezing a variable takes its slots away and leaves those of the others where they are.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """The Params of this optimizer."""
        return hyperparams.InstantiableParams(cls)

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises hyperparams.Fail(p, ...) if values do not fit each other."""

    def __init__(self, params: hyperparams.Params):
        self.params = params
        self._variables: dict[str, tf.Variable] = {}
        self._slots: dict[str, Slots] = {}
        self._iteration: tf.Variable = None  # until `Build`

    def Build(self, variables: Mapping[str, tf.Variable]) -> None:
        """Creates the slots. Called once, in the strategy's scope, before any tf.function.

        Args:
          variables: {path: float32 variable}, those to be trained.

        Raises:
          ValueError: if there is no variable, or one is not float32, or was created under another
            strategy.
          RuntimeError: if it was called before.
        """
        if self._iteration is not None:
            raise RuntimeError(f'{type(self).__name__}.Build was called before.')
        if not variables:
            raise ValueError(f'{type(self).__name__} has no variables to train.')
        strategy = tf.distribute.get_strategy()
        for path, variable in variables.items():
            if variable.dtype != tf.float32:
                raise ValueError(
                    f'{type(self).__name__} updates float32 variables; '
                    f'{path} is {variable.dtype.name}.'
                )
            if not strategy.extended.variable_created_in_scope(variable):
                raise ValueError(
                    f'{type(self).__name__}.Build must be called under the strategy that {path} '
                    'was created under: with strategy.scope(): optimizer.Build(variables).'
                )
        self._variables = dict(variables)
        self._slots = {path: {} for path in variables}
        self._iteration = self._CreateSlots()

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """{path: variable} of those that `Build` was given."""
        return dict(self._variables)

    def Apply(self, grads: Mapping[str, Optional[tf.Tensor]], learning_rate: tf.Tensor) -> None:
        """One update of the variables and slots.

        It does not reduce: every replica must give the same gradients. It contains a merge_call,
        so it may be called in `strategy.run` in a branch of a tf.cond, but not in a tf.cond
        in a replica function:

            tf.cond(finite, lambda: strategy.run(optimizer.Apply, args=(grads, rate)), skip)

        Args:
          grads: {path: float32 tensor in the shape of the variable}. A variable whose path is
            missing, or has None, stays as it is, and so do its slots.
          learning_rate: float32 scalar.

        Raises:
          ValueError: if a path is not one of those that `Build` was given.
          TypeError: if a gradient is not a dense float32 tensor.
          RuntimeError: if it is called before `Build`, or outside of a replica context.
        """
        if self._iteration is None:
            raise RuntimeError(f'{type(self).__name__}.Build must be called before Apply.')
        context = tf.distribute.get_replica_context()
        if context is None:
            raise RuntimeError(
                f'{type(self).__name__}.Apply is called in a replica context: '
                'strategy.run(optimizer.Apply, args=(grads, learning_rate)).'
            )
        present = {path: grad for path, grad in grads.items() if grad is not None}
        for path, grad in present.items():
            self._CheckGradient(path, grad)
        with tf.name_scope(type(self).__name__):
            shared = self._Shared(tf.cast(learning_rate, tf.float32))
            context.merge_call(self._ApplyToAll, args=(present, shared))

    def Slots(self) -> dict[tuple[str, str], tf.Variable]:
        """{(path, slot): variable}, with the number of updates as ('', 'iteration'), int64."""
        slots = {
            (path, name): slot
            for path, by_name in self._slots.items()
            for name, slot in by_name.items()
        }
        slots['', 'iteration'] = self._iteration
        return slots

    # For subclasses.

    def _CreateSlots(self) -> tf.Variable:
        """Fills self._slots for self._variables; returns the counter of updates, int64."""
        raise NotImplementedError(f'{type(self).__name__}._CreateSlots')

    def _Shared(self, learning_rate: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalars that the updates of all variables share, computed once an update."""
        return {'learning_rate': learning_rate}

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: dict[str, tf.Variable],
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        """Updates one variable on one device. All arguments are that device's own."""
        raise NotImplementedError(f'{type(self).__name__}._Update')

    # Inside.

    def _CheckGradient(self, path: str, grad: Union[tf.Tensor, tf.IndexedSlices]) -> None:
        if path not in self._variables:
            near = difflib.get_close_matches(path, self._variables, n=3)
            raise ValueError(
                f'{type(self).__name__} was not built for {path!r}. '
                f'Nearest of its {len(self._variables)} variables: {", ".join(near) or "none"}.'
            )
        if isinstance(grad, tf.IndexedSlices):
            raise TypeError(f'The gradient of {path} is IndexedSlices: make it dense.')
        if grad.dtype != tf.float32:
            raise TypeError(f'The gradient of {path} is {grad.dtype.name}: cast it to float32.')

    def _ApplyToAll(
        self,
        strategy: tf.distribute.Strategy,
        grads: dict[str, tf.Tensor],
        shared: dict[str, tf.Tensor],
    ) -> None:
        """In cross-replica context: each device updates its own copy of each variable."""
        for path, grad in grads.items():
            strategy.extended.update(
                self._variables[path],
                functools.partial(self._Update, path=path),
                args=(grad, self._slots[path], shared),
                group=False,
            )
        strategy.extended.update(
            self._iteration, lambda n: n.assign_add(1, read_value=False), group=False
        )


def ZerosBeside(variable: tf.Variable, shape: Sequence[int], name: str) -> tf.Variable:
    """A slot of zeros, float32, on the devices of a variable."""
    with tf.distribute.get_strategy().extended.colocate_vars_with(variable):
        return tf.Variable(tf.zeros(shape), trainable=False, name=name.replace('/', '_'))
