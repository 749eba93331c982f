"""Larc: momentum with a learning rate for each variable."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim.optimizers import base_optimizer, moments
from lingvo_lite.optim.optimizers.momentum import Momentum


class Larc(Momentum):
    """Momentum in which each variable has a learning rate of its own, a':

        clip:   a' = min(a, max(r, min_update a))
        scale:  a' = a max(r, min_update)
        r = eta |w| / (|g| + epsilon)

    so that no variable moves far in relation to its size; 'scale' is LARS (You et al., 2017, arXiv
    1708.03888, equation 6; without its weight decay, which is `train.l2_regularizer_weight` here).
    Clipping and the two small numbers are those of OpenSeq2Seq, which takes this for every
    variable: one of zeros begins with min_update. Do not clip the gradient's norm beside it.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('eta', 1e-3, 'The trust: a step over the size of the variable.')
        p.Define(
            'mode',
            'clip',
            'clip: eta limits the learning rate. scale: eta multiplies it.',
            choices=('clip', 'scale'),
        )
        p.Define('min_update', 1e-7, "The least a' / a.")
        moments.DefineEpsilon(p, 1e-7, to='the norm of the gradient')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.RequireRange(p, 'min_update', 'epsilon', at_least=0)
        hyperparams.RequireRange(p, 'eta', above=0)

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: base_optimizer.Slots,
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        p = self.params
        ratio = trust_ratio(tf.convert_to_tensor(variable), grad, p.eta, p.epsilon)
        a = shared['learning_rate']
        if p.mode == 'clip':
            rate = tf.minimum(a, tf.maximum(ratio, p.min_update * a))
        else:
            rate = a * tf.maximum(ratio, p.min_update)
        super()._Update(variable, grad, slots, {'learning_rate': rate}, path)


def trust_ratio(w: tf.Tensor, g: tf.Tensor, eta: float, epsilon: float) -> tf.Tensor:
    """eta |w| / (|g| + epsilon), 0 for 0 / 0: float32 []."""
    return tf.math.divide_no_nan(eta * tf.norm(w), tf.norm(g) + epsilon)
