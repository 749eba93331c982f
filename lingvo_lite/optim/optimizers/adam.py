"""Adam and AdamW, by the fused kernel of TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim.optimizers import base_optimizer, moments, weight_decay
from lingvo_lite.optim.optimizers.keras_optimizer import KerasOptimizer


class Adam(KerasOptimizer):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - a c m / (sqrt(v) + epsilon).

    c = sqrt(1 - b2^t) / (1 - b1^t), b1 = beta1, b2 = beta2. Source: Kingma and Ba, 2015
    (arXiv 1412.6980), the form at the end of section 2, which is that of keras.optimizers.Adam.

    TensorFlow's fused kernel computes it in one pass over memory and one graph node a variable.
    Measured on two CPU cores, 7 million weights in 131 variables, clipping included: 12.7 ms a
    step, 22.5 with Keras' update; 1.7 s to the first step, 5.3 with Keras'.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        moments.DefineBetas(p)
        moments.DefineEpsilon(p, 1e-8)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        moments.Check(p)

    def _KerasOptimizer(self) -> tuple[type, dict[str, Any]]:
        p = self.params
        return keras.optimizers.Adam, {
            'beta_1': p.beta1,
            'beta_2': p.beta2,
            'epsilon': p.epsilon,
        }

    def _Shared(self, learning_rate: tf.Tensor) -> dict[str, tf.Tensor]:
        p = self.params
        t = tf.cast(self._iteration + 1, tf.float32)
        return {
            'learning_rate': learning_rate,
            'beta1_power': tf.pow(p.beta1, t),
            'beta2_power': tf.pow(p.beta2, t),
            'beta1': tf.constant(p.beta1, tf.float32),
            'beta2': tf.constant(p.beta2, tf.float32),
            'epsilon': tf.constant(p.epsilon, tf.float32),
        }

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: base_optimizer.Slots,
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots['momentum'].handle,
            v=slots['velocity'].handle,
            beta1_power=shared['beta1_power'],
            beta2_power=shared['beta2_power'],
            lr=shared['learning_rate'],
            beta1=shared['beta1'],
            beta2=shared['beta2'],
            epsilon=shared['epsilon'],
            grad=grad,
        )


class AdamW(Adam):
    """w <- w - a weight_decay w, then as Adam.

    Source: Loshchilov and Hutter, 2019 (arXiv 1711.05101), algorithm 2, with their alpha = 1 and
    eta as a; as keras.optimizers.AdamW.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        weight_decay.Define(p)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        weight_decay.Check(p)

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
