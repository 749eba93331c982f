"""One step of a recurrent network: LSTM and GRU.

What x adds to the gates is a term of a sum, so it can be computed for all steps at once
(`Project`). What is left of a step is a function for `recurrence.recur` (`Step`) and the tensors
that it reads (`Matrices`, `Shared`). The equations are free functions.
"""

from __future__ import annotations

from typing import Callable, Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base, dropout
from lingvo_lite.layers.recurrent import cudnn, recurrence
from lingvo_lite.nested_map import NestedMap

_EPSILON = 1e-6


class _RNNCell(base.BaseLayer):
    """What the cells share: x [batch, input_dim] and a state -> [batch, output_dim], next state.

    Zoneout (Krueger et al., arXiv 1606.01305): in training each entry of the state keeps its old
    value with probability `zoneout_prob`; otherwise the next state is the mean over such draws.
    """

    num_gates: int

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Size of the input.', type=int)
        p.Define('cell_dim', REQUIRED, 'Size of the state.', type=int)
        p.Define('zoneout_prob', 0.0, 'Probability that an entry of the state stays, in [0, 1).')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'zoneout_prob', at_least=0, below=1)

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        gates = self.num_gates * p.cell_dim
        self.CreateVariable('w', base.Weight([p.input_dim, gates]))
        self.CreateVariable('u', base.Weight([self.output_dim, gates]))
        self.CreateVariable('b', base.Bias(gates))

    @property
    def output_dim(self) -> int:
        """Size of the output."""
        return int(self.params.cell_dim)

    @property
    def cudnn_mode(self) -> Optional[str]:
        """What this cell is to `cudnn.run`; None if cuDNN does not compute it."""
        return None

    def CudnnBuffer(self) -> tf.Tensor:
        """The weights for `cudnn.run`, in the compute type."""
        raise NotImplementedError(f'{type(self).__name__}.CudnnBuffer')

    def FProp(self, x: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        """One step. x: [batch, input_dim] -> [batch, output_dim], and the next state."""
        inputs = NestedMap(x=self.Project(x), **self.Noise(1, tf.shape(x)[0]))
        if 'noise' in inputs:
            inputs.noise = inputs.noise.Transform(lambda stays: stays[0])
        matrices = self.Matrices()
        return self.Step(
            lambda name, a: recurrence.times(a, matrices[name]), self.Shared(), inputs, state
        )

    def InitStates(self, batch: Union[int, tf.Tensor]) -> NestedMap:
        """The state before the first step: zeros [batch, size]."""
        return NestedMap(
            {name: tf.zeros([batch, size], dtype) for name, (size, dtype) in self._State().items()}
        )

    def Project(self, x: tf.Tensor) -> tf.Tensor:
        """What the input adds to the gates, with their bias.

        Args:
          x: [..., input_dim], or the first entries of the input only; see `InputMatrix`.

        Returns:
          [..., num_gates * cell_dim], in the compute type.
        """
        w = self.InputMatrix(0, x.shape[-1])
        return recurrence.times(tf.cast(x, self.dtype), w) + self.InputBias()

    def InputMatrix(self, start: int, end: int) -> tf.Tensor:
        """What entries start .. end of the input are multiplied with."""
        w = tf.convert_to_tensor(self.theta.w)
        return w if end - start == w.shape[0] else w[start:end]

    def InputBias(self) -> tf.Tensor:
        """What `Project` adds: [num_gates * cell_dim], in the compute type."""
        return tf.convert_to_tensor(self.theta.b)

    def Matrices(self) -> dict[str, tf.Tensor]:
        """What `Step` multiplies with; see `recurrence`."""
        return {'u': tf.convert_to_tensor(self.theta.u)}

    def Shared(self) -> NestedMap:
        """What else `Step` reads."""
        return NestedMap()

    def Noise(self, time: Union[int, tf.Tensor], batch: Union[int, tf.Tensor]) -> NestedMap:
        """The draws of zoneout, for all steps at once: they are inputs of the recurrence.

        Returns:
          noise: {name of a state: bool [time, batch, size], True for what stays}. Missing if there
            are no draws.
        """
        rate = self.params.zoneout_prob
        if not rate or not step.Current().training:
            return NestedMap()
        stays = NestedMap()
        for name, (size, _) in self._State().items():
            seed = step.ActivationSeed(self.path)
            stays[name] = ~dropout.keep_mask(tf.stack([time, batch, size]), rate, seed)
        return NestedMap(noise=stays)

    def Step(
        self, product: recurrence.Product, shared: NestedMap, inputs: NestedMap, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap]:
        """The cell for `recurrence.recur`.

        Args:
          product: see `recurrence`.
          shared: from `Shared`.
          inputs: x, from `Project`, and noise, from `Noise`; of one step.
          state: from `InitStates` or the step before.

        Returns:
          [batch, output_dim], in the compute type, and the next state.
        """
        raise NotImplementedError(f'{type(self).__name__}.Step')

    def _State(self) -> dict[str, tuple[int, tf.DType]]:
        """{name: (size, type)} of the parts of the state."""
        raise NotImplementedError(f'{type(self).__name__}._State')

    def _Zoneout(self, old: NestedMap, new: NestedMap, inputs: NestedMap) -> NestedMap:
        rate = self.params.zoneout_prob
        if not rate:
            return new
        stays = inputs.Get('noise') or {}
        return NestedMap({k: zoneout(old[k], new[k], rate, stays.get(k)) for k in new})


class LSTMCell(_RNNCell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gate, Gers, 2000).

        i, f, o, g = x w + m u + b;  c' = sigm(f) c + sigm(i) tanh(g);  m' = sigm(o) tanh(c')

    State: c, float32 [batch, cell_dim], and m, [batch, output_dim], which is the output.

    - `projection_dim`: m' is multiplied with a [cell_dim, projection_dim] (Sak et al., 2014).
    - `layer_norm`: each of i, f, o, g is normalized, and so is c' before its tanh; scales follow,
      then b and a bias of c' (after Ba et al., arXiv 1607.06450, section 3.1).
    """

    num_gates = 4

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('projection_dim', 0, 'Size of the output after a projection; 0 for none.')
        p.Define('layer_norm', False, 'Whether gates and state are normalized.')
        p.Define(
            'forget_gate_bias',
            1.0,
            'Added to the forget gate, so that a new cell remembers (Jozefowicz et al., 2015).',
        )
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        dim = p.cell_dim
        if p.layer_norm:
            self.CreateVariable('gate_scale', base.Scale(4 * dim))
            self.CreateVariable('cell_scale', base.Scale(dim))
            self.CreateVariable('cell_bias', base.Bias(dim))
        if p.projection_dim:
            self.CreateVariable('projection', base.Weight([dim, p.projection_dim]))

    @property
    def output_dim(self) -> int:
        return int(self.params.projection_dim or self.params.cell_dim)

    @property
    def cudnn_mode(self) -> Optional[str]:
        p = self.params
        return None if p.layer_norm or p.projection_dim or p.zoneout_prob else 'lstm'

    def CudnnBuffer(self) -> tf.Tensor:
        return cudnn.lstm_buffer(self.theta.w, self.theta.u, self.InputBias())

    def InputBias(self) -> tf.Tensor:
        # Before a norm it would have no effect.
        bias = tf.zeros([4 * self.params.cell_dim]) if self.params.layer_norm else self._Bias()
        return tf.cast(bias, self.dtype)

    def Matrices(self) -> dict[str, tf.Tensor]:
        matrices = super().Matrices()
        if self.params.projection_dim:
            matrices['projection'] = tf.convert_to_tensor(self.theta.projection)
        return matrices

    def Shared(self) -> NestedMap:
        if not self.params.layer_norm:
            return NestedMap()
        theta = self.theta32
        return NestedMap(
            gate_scale=theta.gate_scale,
            gate_bias=self._Bias(),
            cell_scale=theta.cell_scale,
            cell_bias=theta.cell_bias,
        ).Transform(tf.convert_to_tensor)

    def Step(
        self, product: recurrence.Product, shared: NestedMap, inputs: NestedMap, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap]:
        r = product('u', state.m)
        if self.params.layer_norm:
            m, c = normalized_lstm(inputs.x, r, state.c, **shared)
        else:
            m, c = lstm(inputs.x, r, state.c)
        m = tf.cast(m, self.dtype)
        if self.params.projection_dim:
            m = product('projection', m)
        state = self._Zoneout(state, NestedMap(c=c, m=m), inputs)
        return state.m, state

    def _Bias(self) -> tf.Tensor:
        """float32 [4 * cell_dim]."""
        return lstm_bias(self.theta32.b, self.params.forget_gate_bias)

    def _State(self) -> dict[str, tuple[int, tf.DType]]:
        return {'c': (self.params.cell_dim, tf.float32), 'm': (self.output_dim, self.dtype)}


class GRUCell(_RNNCell):
    """Gated recurrent unit (Cho et al., 2014), with the reset behind the product, as in cuDNN.

        z, r = sigm(x w + h u + b);  n = tanh(x w_n + b_n + r (h u_n + d));  h' = z h + (1 - z) n

    State: h, float32 [batch, cell_dim], which is the output.
    """

    num_gates = 3

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self.CreateVariable('d', base.Bias(self.params.cell_dim))

    @property
    def cudnn_mode(self) -> Optional[str]:
        return None if self.params.zoneout_prob else 'gru'

    def CudnnBuffer(self) -> tf.Tensor:
        theta = self.theta
        return cudnn.gru_buffer(theta.w, theta.u, self.InputBias(), tf.cast(theta.d, self.dtype))

    def Shared(self) -> NestedMap:
        return NestedMap(d=tf.convert_to_tensor(self.theta32.d))

    def Step(
        self, product: recurrence.Product, shared: NestedMap, inputs: NestedMap, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap]:
        r = product('u', tf.cast(state.h, self.dtype))
        state = self._Zoneout(state, NestedMap(h=gru(inputs.x, r, state.h, shared.d)), inputs)
        return tf.cast(state.h, self.dtype), state

    def _State(self) -> dict[str, tuple[int, tf.DType]]:
        return {'h': (self.params.cell_dim, tf.float32)}


# The equations. Gates and states are float32 inside, whatever the compute type is.


@tf.custom_gradient
def lstm(
    x: tf.Tensor, r: tf.Tensor, c: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tuple[tf.Tensor, ...]]]:
    """c' = sigm(f) c + sigm(i) tanh(g), m = sigm(o) tanh(c').

    Args:
      x, r: [..., 4 * dim], terms of (i, f, o, g) from the input and from the last output.
      c: float32 [..., dim].

    Returns:
      m and c': float32 [..., dim].
    """
    dim = c.shape[-1]
    # [..., 3 * dim] and [..., dim]
    z, g = tf.split(tf.cast(x, tf.float32) + tf.cast(r, tf.float32), [3 * dim, dim], axis=-1)
    gates, g = tf.sigmoid(z), tf.tanh(g)
    i, f, o = tf.split(gates, 3, axis=-1)
    after = f * c + i * g
    squashed = tf.tanh(after)

    def Gradient(d_m: tf.Tensor, d_after: tf.Tensor) -> tuple[tf.Tensor, ...]:
        d_c = d_after + tf.raw_ops.TanhGrad(y=squashed, dy=d_m * o)
        d_gates = tf.concat([d_c * g, d_c * c, d_m * squashed], axis=-1)
        d_z = tf.raw_ops.SigmoidGrad(y=gates, dy=d_gates)
        d = tf.concat([d_z, tf.raw_ops.TanhGrad(y=g, dy=d_c * i)], axis=-1)
        return tf.cast(d, x.dtype), tf.cast(d, r.dtype), d_c * f

    return (o * squashed, after), Gradient


def lstm_bias(b: tf.Tensor, forget_gate_bias: float) -> tf.Tensor:
    """b: [4 * dim], of (i, f, o, g), with forget_gate_bias added to f."""
    forget = tf.repeat(tf.constant([0.0, forget_gate_bias, 0.0, 0.0]), b.shape[0] // 4)
    return b + forget


def normalized_lstm(
    x: tf.Tensor,
    r: tf.Tensor,
    c: tf.Tensor,
    gate_scale: tf.Tensor,
    gate_bias: tf.Tensor,
    cell_scale: tf.Tensor,
    cell_bias: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """As `lstm`, with each of i, f, o, g and the c' inside of tanh(c') normalized.

    Args:
      x, r, c: see `lstm`.
      gate_scale, gate_bias: [4 * dim].
      cell_scale, cell_bias: [dim].
    """
    dim = c.shape[-1]
    z = tf.cast(x, tf.float32) + tf.cast(r, tf.float32)
    # [batch, 4 * dim] -> [batch, 4, dim] -> four of [batch, dim]
    z = _normalized(tf.reshape(z, [-1, 4, dim]))
    z = z * tf.reshape(gate_scale, [4, dim]) + tf.reshape(gate_bias, [4, dim])
    i, f, o, g = tf.unstack(z, axis=1)
    after = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(_normalized(after) * cell_scale + cell_bias), after


def gru(x: tf.Tensor, r: tf.Tensor, h: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    """The next h; see `GRUCell`.

    Args:
      x, r: [batch, 3 * dim], terms of (z, r, n) from the input and from the last output.
      h: float32 [batch, dim].
      d: [dim], bias inside of the reset.
    """
    x_z, x_r, x_n = tf.split(tf.cast(x, tf.float32), 3, axis=1)
    h_z, h_r, h_n = tf.split(tf.cast(r, tf.float32), 3, axis=1)
    z, reset = tf.sigmoid(x_z + h_z), tf.sigmoid(x_r + h_r)
    n = tf.tanh(x_n + reset * (h_n + d))
    return n + z * (h - n)


def zoneout(old: tf.Tensor, new: tf.Tensor, rate: float, stays: Optional[tf.Tensor]) -> tf.Tensor:
    """old where `stays`, new elsewhere; without draws their mean, rate * old + (1 - rate) * new."""
    if stays is None:
        return new + tf.cast(rate, new.dtype) * (old - new)
    return tf.where(stays, old, new)


def _normalized(x: tf.Tensor) -> tf.Tensor:
    """x: [..., dim], with mean 0 and variance 1 over the last axis."""
    x -= tf.reduce_mean(x, axis=-1, keepdims=True)
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), axis=-1, keepdims=True) + _EPSILON)
