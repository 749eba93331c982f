"""LSTM whose products are convolutions over frequency (Shi et al., arXiv 1506.04214)."""

from __future__ import annotations

from typing import Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.layers.recurrent import cells, recurrence
from lingvo_lite.nested_map import NestedMap


class ConvLSTM(base.BaseLayer):
    """i, f, o, g = x * w + m * u + b, with * along frequency; the rest as in `cells.LSTMCell`.

    x: [batch, time, frequency, input_dim] -> [batch, time, frequency, cell_dim]; zeros at paddings,
    where the state stays as it is. Outside of the frequencies there are zeros.

    State: c, float32, and m: [batch, frequency, cell_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Channels of the input.', type=int)
        p.Define('cell_dim', REQUIRED, 'Channels of the state and the output.', type=int)
        p.Define('kernel_size', 3, 'Frequencies that are looked at; odd.')
        p.Define('forget_gate_bias', 1.0, 'Added to the forget gate.')
        p.Define('reverse', False, 'Whether time runs backward.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        odd = p.kernel_size >= 1 and p.kernel_size % 2 == 1
        hyperparams.Require(p, odd, 'kernel_size', 'odd: a frequency and its neighbours')

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        for name, dim in (('w', p.input_dim), ('u', p.cell_dim)):
            self.CreateVariable(name, base.Weight([p.kernel_size, dim, 4 * p.cell_dim]))
        self.CreateVariable('b', base.Bias(4 * p.cell_dim))

    def FProp(self, x: tf.Tensor, paddings: Optional[tf.Tensor]) -> tf.Tensor:
        """paddings: [batch, time]; None for none."""
        # [batch, time, frequency, dim] -> [time, batch, frequency, gates]
        x = self._Project(tf.transpose(x, [1, 0, 2, 3]))
        ys, _ = recurrence.recur(
            self._Step,
            {'u': self._Matrix(self.theta.u)},
            NestedMap(),
            x,
            self.InitStates(tf.shape(x)[1], x.shape[2] or tf.shape(x)[2]),
            None if paddings is None else tf.transpose(paddings),
            self.params.reverse,
            use_while_loop_based_unrolling=not step.Current().training,
        )
        # [time, batch, frequency, dim] -> [batch, time, frequency, dim]
        return tf.transpose(ys, [1, 0, 2, 3])

    def InitStates(
        self, batch: Union[int, tf.Tensor], frequency: Union[int, tf.Tensor]
    ) -> NestedMap:
        """The state before the first step: zeros [batch, frequency, cell_dim]."""
        shape = [batch, frequency, self.params.cell_dim]
        return NestedMap(c=tf.zeros(shape, tf.float32), m=tf.zeros(shape, self.dtype))

    def ExtendStep(self, x: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        """x: [batch, frequency, input_dim] -> [batch, frequency, cell_dim], and the next state."""
        u = self._Matrix(self.theta.u)
        return self._Step(lambda _, a: recurrence.times(a, u), NestedMap(), self._Project(x), state)

    def _Project(self, x: tf.Tensor) -> tf.Tensor:
        """x: [..., frequency, input_dim] -> [..., frequency, 4 * cell_dim]."""
        p = self.params
        x = neighbours(tf.cast(x, self.dtype), p.kernel_size)
        bias = tf.cast(cells.lstm_bias(self.theta32.b, p.forget_gate_bias), self.dtype)
        return recurrence.times(x, self._Matrix(self.theta.w)) + bias

    def _Step(
        self, product: recurrence.Product, shared: NestedMap, x: tf.Tensor, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap]:
        del shared
        r = product('u', neighbours(state.m, self.params.kernel_size))
        m, c = cells.lstm(x, r, state.c)
        m = tf.cast(m, self.dtype)
        return m, NestedMap(c=c, m=m)

    def _Matrix(self, w: tf.Tensor) -> tf.Tensor:
        """[kernel_size, dim, gates] -> [kernel_size * dim, gates]."""
        w = tf.convert_to_tensor(w)
        return tf.reshape(w, [w.shape[0] * w.shape[1], w.shape[2]])


def neighbours(x: tf.Tensor, kernel_size: int) -> tf.Tensor:
    """x: [..., frequency, dim] -> each frequency with those around it: [..., f, kernel * dim]."""
    around = kernel_size // 2
    if not around:
        return x
    rank = x.shape.rank
    padded = tf.pad(x, [[0, 0]] * (rank - 2) + [[around, around], [0, 0]])
    count = tf.shape(x)[-2]
    y = tf.concat([padded[..., k : k + count, :] for k in range(kernel_size)], axis=-1)
    y.set_shape(x.shape[:-1] + [kernel_size * x.shape[-1]])
    return y
