"""Lion: the sign of a mean of gradients."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim.optimizers import base_optimizer, moments, weight_decay
from lingvo_lite.optim.optimizers.keras_optimizer import KerasOptimizer


class Lion(KerasOptimizer):
    """w <- w - a sign(b1 m + (1 - b1) g);  m <- b2 m + (1 - b2) g (keras.optimizers.Lion).

    Before that, w <- w - a weight_decay w. b1 = beta1, b2 = beta2.
    Source: Chen et al., 2023 (arXiv 2302.06675), algorithm 2.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        moments.DefineBetas(
            p,
            beta1=(0.9, 'Share of the mean in what the sign is taken of.'),
            beta2=(0.99, 'Decay of the mean of gradients.'),
        )
        weight_decay.Define(p)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        moments.Check(p)
        hyperparams.RequireRange(
            p, 'beta1', above=0, note='0 leaves the sign of the gradient alone'
        )
        weight_decay.Check(p)

    def _KerasOptimizer(self) -> tuple[type, dict[str, Any]]:
        p = self.params
        return keras.optimizers.Lion, {'beta_1': p.beta1, 'beta_2': p.beta2}

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: base_optimizer.Slots,
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        weight_decay.Apply(self.params, variable, shared['learning_rate'], path)
        super()._Update(variable, grad, slots, shared, path)
