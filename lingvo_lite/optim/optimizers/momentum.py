"""SGD and Momentum: gradient descent, plain and with a memory."""

from __future__ import annotations

from typing import Any

import keras

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim.optimizers.keras_optimizer import KerasOptimizer


class SGD(KerasOptimizer):
    """w <- w - a g (keras.optimizers.SGD)."""

    def _KerasOptimizer(self) -> tuple[type, dict[str, Any]]:
        return keras.optimizers.SGD, {}


class Momentum(KerasOptimizer):
    """m <- alpha m - a g;  w <- w + m (keras.optimizers.SGD).

    With use_nesterov, w <- w + alpha m - a g instead (Sutskever et al., 2013, equations 3, 4).
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('alpha', 0.9, 'The momentum.')
        p.Define('use_nesterov', False, "Whether it is Nesterov's.")
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'alpha', above=0, below=1, note='without momentum use SGD')

    def _KerasOptimizer(self) -> tuple[type, dict[str, Any]]:
        p = self.params
        return keras.optimizers.SGD, {'momentum': p.alpha, 'nesterov': p.use_nesterov}
