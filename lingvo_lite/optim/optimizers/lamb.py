"""Lamb: Adam's step, made relative to the size of the variable."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim.optimizers import base_optimizer, moments, weight_decay
from lingvo_lite.optim.optimizers.keras_optimizer import KerasOptimizer


class Lamb(KerasOptimizer):
    """w <- w - a r u, with u = m' / (sqrt(v') + epsilon) + weight_decay w and r = |w| / |u|.

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t) are Adam's means without bias; r = 1 if |w| or |u|
    is 0. Source: You et al., 2020 (arXiv 1904.00962), algorithm 2, with phi(x) = x. Keras' Lamb
    leaves the decay out of u, so only the slots are its.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        moments.DefineBetas(p)
        moments.DefineEpsilon(p, 1e-6)
        weight_decay.Define(p)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        moments.Check(p)
        weight_decay.Check(p)

    def _KerasOptimizer(self) -> tuple[type, dict[str, Any]]:
        return keras.optimizers.Lamb, {}

    def _Shared(self, learning_rate: tf.Tensor) -> dict[str, tf.Tensor]:
        p = self.params
        t = tf.cast(self._iteration + 1, tf.float32)
        return {
            'learning_rate': learning_rate,
            'beta1_rest': 1.0 - tf.pow(p.beta1, t),
            'beta2_rest': 1.0 - tf.pow(p.beta2, t),
        }

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: base_optimizer.Slots,
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        p = self.params
        w = tf.convert_to_tensor(variable)
        m = slots['momentum'] + (1.0 - p.beta1) * (grad - slots['momentum'])
        v = slots['velocity'] + (1.0 - p.beta2) * (tf.square(grad) - slots['velocity'])
        slots['momentum'].assign(m, read_value=False)
        slots['velocity'].assign(v, read_value=False)
        u = m / shared['beta1_rest'] / (tf.sqrt(v / shared['beta2_rest']) + p.epsilon)
        decay = weight_decay.Of(p, path)
        if decay:
            u += decay * w
        w_norm, u_norm = tf.norm(w), tf.norm(u)
        usual = tf.logical_and(w_norm > 0.0, u_norm > 0.0)
        ratio = tf.where(usual, tf.math.divide_no_nan(w_norm, u_norm), 1.0)
        variable.assign_sub(shared['learning_rate'] * ratio * u, read_value=False)
