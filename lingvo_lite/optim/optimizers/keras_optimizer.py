"""KerasOptimizer: one of keras.optimizers, with its slots under names.

Keras creates the slots and, where nothing else is said, computes the update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from lingvo_lite.optim.optimizers import base_optimizer


class KerasOptimizer(base_optimizer.BaseOptimizer):
    """A keras.optimizers.Optimizer. A subclass says which, in `_KerasOptimizer`."""

    _keras: Any = None

    def _KerasOptimizer(self) -> tuple[type, dict[str, Any]]:
        """The Keras class and its arguments, without the learning rate."""
        raise NotImplementedError(f'{type(self).__name__}._KerasOptimizer')

    def _CreateSlots(self) -> tf.Variable:
        cls, arguments = self._KerasOptimizer()
        paths = {id(variable): path for path, variable in self._variables.items()}
        self._keras = _Recording(cls, paths, self._slots)(
            # A function, because Keras makes a variable of a number. Each update brings its own.
            learning_rate=lambda: 0.0,
            **arguments,
        )
        self._keras.build(list(self._variables.values()))
        named = {id(slot) for slots in self._slots.values() for slot in slots.values()}
        named.add(id(self._keras.iterations.value))
        nameless = [v.path for v in self._keras.variables if id(v.value) not in named]
        if nameless:
            raise RuntimeError(
                f'keras {keras.__version__} {cls.__name__} keeps variables that are not slots of '
                f'one variable, so they cannot be saved by name: {", ".join(nameless)}.'
            )
        return self._keras.iterations.value

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: base_optimizer.Slots,
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        self._keras.update_step(grad, variable, shared['learning_rate'])


def _Recording(cls: type, paths: Mapping[int, str], slots: dict[str, base_optimizer.Slots]) -> type:
    """A subclass of a Keras optimizer that notes its slots where it creates them.

    Keras itself knows a slot by its position among all of them, which shifts when one variable is
    frozen.

    Args:
      cls: the Keras class.
      paths: {id(variable): its path}.
      slots: {path: {slot: variable}} to write into.
    """

    class Recording(cls):  # type: ignore[misc,valid-type]
        def add_variable_from_reference(
            self, reference_variable: Any, name: Any = None, initializer: Any = 'zeros'
        ) -> Any:
            slot = super().add_variable_from_reference(
                reference_variable, name=name, initializer=initializer
            )
            slots[paths[id(reference_variable)]][name] = slot.value
            return slot

    Recording.__name__ = cls.__name__
    return Recording
