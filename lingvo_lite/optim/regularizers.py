"""L2 and L1 penalties on float32 variables.

They are computed on the variables, never on their float16 copies, and behind the loss scale: a
weight of 1e-4 times a decay of 1e-4 is 0 in float16.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Optional

import tensorflow as tf


class BaseRegularizer(abc.ABC):
    """A penalty on variables.

    Args:
      weight: its factor in the loss, at least 0.

    Raises:
      ValueError: if the weight is negative.
    """

    def __init__(self, weight: float):
        if not weight >= 0:
            raise ValueError(
                f'The weight of {type(self).__name__} must be at least 0, got {weight}.'
            )
        self.weight = weight

    def Loss(self, variables: Mapping[str, tf.Variable]) -> tf.Tensor:
        """The penalty of all variables together.

        Args:
          variables: {path: float32 variable}, those that the penalty is about.

        Returns:
          float32 scalar.
        """
        terms = [self._Term(variable) for variable in variables.values()]
        return self.weight * tf.add_n(terms) if terms else tf.zeros([], tf.float32)

    def Gradient(self, variable: tf.Variable) -> tf.Tensor:
        """The gradient of the penalty of one variable, in its shape."""
        return self.weight * self._Derivative(variable)

    def AddGradients(
        self,
        grads: Mapping[str, Optional[tf.Tensor]],
        variables: Mapping[str, tf.Variable],
    ) -> dict[str, Optional[tf.Tensor]]:
        """The gradients of the loss with this penalty.

        Args:
          grads: {path: float32 tensor or None} of the loss without it.
          variables: {path: float32 variable}, those that the penalty is about.

        Returns:
          {path: gradient} for all paths of `grads`. A variable without a gradient of its own gets
          that of the penalty.
        """
        summed = dict(grads)
        for path, grad in grads.items():
            if path in variables:
                penalty = self.Gradient(variables[path])
                summed[path] = penalty if grad is None else grad + penalty
        return summed

    @abc.abstractmethod
    def _Term(self, w: tf.Variable) -> tf.Tensor: ...

    @abc.abstractmethod
    def _Derivative(self, w: tf.Variable) -> tf.Tensor: ...


class L2(BaseRegularizer):
    """weight * sum(w^2) / 2; its gradient is weight * w."""

    def _Term(self, w: tf.Variable) -> tf.Tensor:
        return tf.nn.l2_loss(w)

    def _Derivative(self, w: tf.Variable) -> tf.Tensor:
        return tf.convert_to_tensor(w)


class L1(BaseRegularizer):
    """weight * sum(|w|); its gradient is weight * sign(w), 0 at 0."""

    def _Term(self, w: tf.Variable) -> tf.Tensor:
        return tf.reduce_sum(tf.abs(w))

    def _Derivative(self, w: tf.Variable) -> tf.Tensor:
        return tf.sign(w)
