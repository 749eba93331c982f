"""Attention of a recurrent decoder that only moves forward."""

from __future__ import annotations

from typing import Union

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import Self
from lingvo_lite.layers import base
from lingvo_lite.layers.initializers import WeightInit
from lingvo_lite.layers.recurrent import attention
from lingvo_lite.nested_map import NestedMap


class MonotonicAttention(attention.AdditiveAttention):
    """Looks at one position, never at one before the last (Raffel et al., arXiv 1704.00784).

    From the last position on, it stops at s with probability p_s = sigm(e_s + r). In training the
    probabilities of where it stops are used (equation 9); otherwise, if `hard`, it stops for sure
    where p_s > 1/2. Where it stops nowhere, the context is zeros, then and in all steps behind.

    queries: [batch, time, query_dim], source: [batch, s, source_dim] -> [batch, time, source_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.normalized = True  # section 2.4
        p.Define('bias', -1.0, 'First value of r: how soon it stops.')
        p.Define('hard', True, 'Whether it looks at one position only when it is not training.')
        p.Define(
            'sigmoid_noise',
            0.0,
            'Standard deviation of what is added to e_s in training, so that it learns to be sure.',
        )
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        bias = WeightInit.Constant(self.params.bias)
        self.CreateVariable('r', base.Weight([], init=bias, regularize=False))

    def InitStates(self, memory: NestedMap) -> NestedMap:
        # [batch, s]: at the first position
        batch, length = tf.unstack(tf.shape(memory.looks))
        return NestedMap(last=tf.one_hot(tf.zeros([batch], tf.int32), length))

    def Shared(self, memory: NestedMap) -> NestedMap:
        shared = super().Shared(memory)
        shared.r = tf.convert_to_tensor(self.theta32.r)
        return shared

    def Noise(self, time: Union[int, tf.Tensor], memory: NestedMap) -> NestedMap:
        deviation = self.params.sigmoid_noise
        if not deviation or not step.Current().training:
            return NestedMap()
        batch, length = tf.unstack(tf.shape(memory.looks))
        seed = step.ActivationSeed(self.path)
        draws = tf.random.stateless_normal(tf.stack([time, batch, 1, length]), seed)
        return NestedMap(noise=deviation * draws)

    def _Probs(
        self, energies: tf.Tensor, shared: NestedMap, inputs: NestedMap, state: NestedMap
    ) -> tf.Tensor:
        energies += shared.r
        if 'noise' in inputs:
            energies += inputs.noise
        p = tf.where(shared.looks[:, tf.newaxis], tf.sigmoid(energies), 0.0)
        last = tf.reshape(state.last, tf.shape(energies))
        hard = self.params.hard and not step.Current().training
        return first_stop(p, last) if hard else expected_stop(p, last)

    def _NextState(self, probs: tf.Tensor, state: NestedMap) -> NestedMap:
        return NestedMap(last=probs)


def expected_stop(p: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """a_s = p_s q_s sum_{j <= s} last_j / q_j,  q_s = prod_{j < s} (1 - p_j).

    Args:
      p: float32 [..., s], probability to stop at s when it gets there.
      last: float32 [..., s], probability of the last stop.
    """
    tiny = 1e-10
    # Products of probabilities underflow; their logarithms do not.
    go_on = tf.math.log(tf.clip_by_value(1.0 - p, tiny, 1.0))
    q = tf.exp(tf.cumsum(go_on, axis=-1, exclusive=True))
    return p * q * tf.cumsum(last / tf.maximum(q, tiny), axis=-1)


def first_stop(p: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """1 at the first s, from the last stop on, with p_s > 1/2; 0 elsewhere. As `expected_stop`."""
    reached = tf.cumsum(last, axis=-1) > 0.5
    stops = tf.cast(reached & (p > 0.5), tf.float32)
    return stops * tf.cast(tf.cumsum(stops, axis=-1, exclusive=True) < 0.5, tf.float32)
