"""NovoGrad: each variable's gradient divided by its own norm, then momentum."""

from __future__ import annotations

from typing import Union

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim.optimizers import base_optimizer, moments, weight_decay


class NovoGrad(base_optimizer.BaseOptimizer):
    """m <- b1 m + g / (sqrt(v) + epsilon) + weight_decay w;  w <- w - a m.

    Before that, v <- b2 v + (1 - b2) |g|^2.
    v is a number for each variable, a layer in the words of the paper; it starts as |g|^2 of the
    first gradient that is not zero. b1 = beta1, b2 = beta2; with beta2 = 0, v is |g|^2.
    Source: Ginsburg et al., 2019 (arXiv 1905.11286), algorithm 1.

    OpenSeq2Seq's has epsilon inside of the root. It never stores v, so whatever its beta2 says, its
    published results were got with 0; and there all variables decay, biases and norms too, as here
    with weight_decay_exclusion=''.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        moments.DefineBetas(
            p,
            beta1=(0.95, 'Decay of the momentum.'),
            beta2=(0.98, 'Decay of the mean of squared norms.'),
        )
        moments.DefineEpsilon(p, 1e-8)
        weight_decay.Define(p)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        moments.Check(p)
        weight_decay.Check(p)

    def _CreateSlots(self) -> tf.Variable:
        for path, variable in self._variables.items():
            for name, shape in (('momentum', variable.shape.as_list()), ('velocity', [])):
                slot = base_optimizer.ZerosBeside(variable, shape, f'{path}_{name}')
                self._slots[path][name] = slot
        return tf.Variable(0, dtype=tf.int64, trainable=False, name='iteration')

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: base_optimizer.Slots,
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        p = self.params
        v = mean_square_norm(grad, slots['velocity'], p.beta2)
        slots['velocity'].assign(v, read_value=False)
        change = tf.math.divide_no_nan(grad, tf.sqrt(v) + p.epsilon)
        decay = weight_decay.Of(p, path)
        if decay:
            change += decay * variable
        m = p.beta1 * slots['momentum'] + change
        slots['momentum'].assign(m, read_value=False)
        variable.assign_sub(shared['learning_rate'] * m, read_value=False)


def mean_square_norm(g: tf.Tensor, v: Union[tf.Tensor, tf.Variable], beta2: float) -> tf.Tensor:
    """b2 v + (1 - b2) |g|^2, or |g|^2 while v is 0.

    Args:
      g: float32, of any shape.
      v: float32 [], the mean so far.
      beta2: b2.
    """
    square = tf.reduce_sum(tf.square(g))
    v = tf.convert_to_tensor(v)
    return tf.where(v > 0.0, beta2 * v + (1.0 - beta2) * square, square)
