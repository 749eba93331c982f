"""Multi-head attention (Vaswani et al., 2017, section 3.2).

Masks are bool, True where a query may look, and broadcast to [batch, heads, queries, keys].
"""

from __future__ import annotations

from typing import Callable, Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base, dropout, linear, positions
from lingvo_lite.nested_map import NestedMap

MASKED = -1e9  # the logit of what a query may not look at


class MultiHeadAttention(base.BaseLayer):
    """What self-attention and cross-attention share: heads, dropout and the output projection."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of queries, keys, values and output.', type=int)
        p.Define('num_heads', REQUIRED, 'Number of heads; it divides model_dim.', type=int)
        p.Define('atten_dropout_prob', 0.0, 'Dropout rate of the attention probabilities.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        if p.num_heads < 1 or p.model_dim % p.num_heads:
            divisors = [n for n in range(1, p.model_dim + 1) if p.model_dim % n == 0]
            near = sorted(sorted(divisors, key=lambda n: abs(n - p.num_heads))[:2])
            raise hyperparams.Fail(
                p,
                f'num_heads={p.num_heads} does not divide model_dim={p.model_dim}. '
                f'Divisors near it: {", ".join(map(str, near))}.',
                'num_heads',
            )

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateChild('dropout', dropout.Dropout.Params().Set(rate=p.atten_dropout_prob))
        self._CreateProjection('output', 1)

    def _CreateProjection(self, name: str, parts: int) -> None:
        dim = self.params.model_dim
        self.CreateChild(name, linear.Linear.Params().Set(input_dim=dim, output_dim=parts * dim))

    def _Heads(self, x: tf.Tensor, parts: int, batch: tf.Tensor) -> list[tf.Tensor]:
        """[b, t, parts * model_dim] or [b * t, ...] -> `parts` tensors [b, heads, t, head_dim]."""
        heads = self.params.num_heads
        x = tf.reshape(x, [batch, -1, parts * heads, self.params.model_dim // heads])
        return tf.split(tf.transpose(x, [0, 2, 1, 3]), parts, axis=1)

    def _Attend(
        self,
        q: tf.Tensor,
        k: tf.Tensor,
        v: tf.Tensor,
        mask: Optional[tf.Tensor],
        like: tf.Tensor,
        probs: bool = False,
    ) -> Union[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """q: [b, heads, t, head_dim], k and v: [b, heads, s, head_dim] -> the shape of `like`."""
        q *= tf.cast(q.shape[-1] ** -0.5, q.dtype)
        context, p = attend(q, k, v, mask, self.dropout)
        if context.shape[2] != 1:
            context = tf.transpose(context, [0, 2, 1, 3])
        # [b, t, heads, head_dim] -> [b * t, model_dim]
        y = self.output(tf.reshape(context, [-1, self.params.model_dim]))
        y = tf.reshape(y, tf.shape(like)) if like.shape.rank > 2 else y
        return (y, p) if probs else y


class SelfAttention(MultiHeadAttention):
    """Each position looks at the positions of its own sequence.

    Queries, keys and values come from one product with a weight [model_dim, 3 * model_dim], which
    is initialized as one matrix.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('rotary', False, 'Whether queries and keys are rotated by their positions.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        if p.rotary and p.model_dim // p.num_heads % 2:
            size = p.model_dim // p.num_heads
            raise hyperparams.Fail(p, f'rotary needs heads of even size, got {size}.', 'rotary')

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._CreateProjection('qkv', 3)

    def FProp(
        self, x: tf.Tensor, mask: Optional[tf.Tensor], return_probs: bool = False
    ) -> Union[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Attends.

        Args:
          x: [batch, time, model_dim].
          mask: see the module's docstring; None if all may look at all.
          return_probs: whether to return the probabilities too.

        Returns:
          [batch, time, model_dim]; with return_probs also float32 [batch, heads, time, time].
        """
        q, k, v = self._Heads(self.qkv(x), 3, tf.shape(x)[0])
        if self.params.rotary:
            q, k = positions.rotate(q), positions.rotate(k)
        return self._Attend(q, k, v, mask, x, return_probs)

    def InitStates(self, batch: tf.Tensor) -> NestedMap:
        """The cache before the first step; it grows along axis 2.

        Returns:
          key, value: [batch, heads, 0, head_dim].
        """
        heads = self.params.num_heads
        empty = tf.zeros([batch, heads, 0, self.params.model_dim // heads], self.dtype)
        return NestedMap(key=empty, value=empty)

    def ExtendStep(self, x: tf.Tensor, cache: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        """One more position, which looks at those before it and at itself.

        Args:
          x: [rows, model_dim].
          cache: key and value, [rows, heads, t, head_dim].

        Returns:
          [rows, model_dim], and the cache with t + 1 positions.
        """
        heads = self.params.num_heads
        # [rows, 3 * model_dim] -> three of [rows, heads, 1, head_dim]
        shape = [-1, 3 * heads, 1, self.params.model_dim // heads]
        q, k, v = tf.split(tf.reshape(self.qkv(x), shape), 3, axis=1)
        if self.params.rotary:
            t = tf.shape(cache.key)[2]
            q, k = positions.rotate(q, t), positions.rotate(k, t)
        key = tf.concat([cache.key, k], axis=2)
        value = tf.concat([cache.value, v], axis=2)
        return self._Attend(q, key, value, None, x), NestedMap(key=key, value=value)


class CrossAttention(MultiHeadAttention):
    """Each position looks at the positions of another sequence."""

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._CreateProjection('query', 1)
        self._CreateProjection('key_value', 2)

    def Memory(self, source: tf.Tensor) -> NestedMap:
        """What there is to look at: key and value, [batch, heads, s, head_dim].

        Args:
          source: [batch, s, model_dim].
        """
        key, value = self._Heads(self.key_value(source), 2, tf.shape(source)[0])
        return NestedMap(key=key, value=value)

    def FProp(
        self, x: tf.Tensor, memory: NestedMap, mask: tf.Tensor, return_probs: bool = False
    ) -> Union[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Attends.

        Args:
          x: [batch, time, model_dim], or [batch * time, model_dim]: the beams of a search, side
            by side, count as times.
          memory: from `Memory`.
          mask: see the module's docstring.
          return_probs: whether to return the probabilities too.

        Returns:
          the shape of x; with return_probs also float32 [batch, heads, time, s].
        """
        (q,) = self._Heads(self.query(x), 1, tf.shape(memory.key)[0])
        return self._Attend(q, memory.key, memory.value, mask, x, return_probs)


def attend(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    mask: Optional[tf.Tensor],
    drop: Callable[[tf.Tensor], tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """softmax(q k^T) v.

    Args:
      q: [b, heads, t, head_dim], scaled.
      k, v: [b, heads, s, head_dim].
      mask: bool, broadcasts to [b, heads, t, s]; None for all True.
      drop: applied to the probabilities.

    Returns:
      [b, heads, t, head_dim]; and the probabilities before `drop`, float32 [b, heads, t, s]. A
      query that may look nowhere gets zeros, in both.
    """
    logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)
    if mask is None:
        probs = tf.nn.softmax(logits)
        return tf.matmul(drop(tf.cast(probs, v.dtype)), v), probs
    probs = tf.nn.softmax(tf.where(mask, logits, MASKED))
    looks = tf.reduce_any(mask, axis=-1, keepdims=True)
    context = tf.matmul(drop(tf.cast(probs, v.dtype)), v) * tf.cast(looks, v.dtype)
    return context, probs * tf.cast(looks, tf.float32)


def padding_mask(paddings: tf.Tensor) -> tf.Tensor:
    """paddings: [batch, s] -> mask [batch, 1, 1, s]: look at what is no padding."""
    return (paddings < 0.5)[:, tf.newaxis, tf.newaxis, :]


def causal_mask(paddings: tf.Tensor) -> tf.Tensor:
    """paddings: [batch, t] -> mask [batch, 1, t, t]: look back, at what is no padding."""
    times = tf.range(tf.shape(paddings)[1])
    return padding_mask(paddings) & (times[:, tf.newaxis] >= times)
