"""Transformer encoder and decoder (Vaswani et al., 2017, arXiv 1706.03762).

Post-norm is the paper's: x = norm(x + dropout(f(x))). Pre-norm, x = x + dropout(f(norm(x))) with a
norm behind the last layer, trains without a long warm-up (Xiong et al., arXiv 2002.04745).

A stack hands its sizes, dropout rates and pre_norm to its layers, and these to their parts.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import attention, base, dropout, feedforward, norm
from lingvo_lite.nested_map import NestedMap

_SHARED = (
    'model_dim',
    'num_heads',
    'hidden_dim',
    'pre_norm',
    'residual_dropout_prob',
    'atten_dropout_prob',
    'relu_dropout_prob',
)


def _DefineShared(p: hyperparams.Params) -> None:
    """What a stack and its layers have in common."""
    p.Define('model_dim', REQUIRED, 'Size of the last axis of input and output.', type=int)
    p.Define('num_heads', REQUIRED, 'Heads of each attention.', type=int)
    p.Define('hidden_dim', REQUIRED, 'Size of the hidden layer of the feed-forward part.', type=int)
    p.Define('pre_norm', True, 'Whether the norm stands in front of each part, or behind the sum.')
    p.Define('residual_dropout_prob', 0.0, 'Dropout rate of what each part adds.')
    p.Define('atten_dropout_prob', 0.0, 'Dropout rate of the attention probabilities.')
    p.Define('relu_dropout_prob', 0.0, 'Dropout rate of the hidden layer of the feed-forward part.')


class _TransformerLayer(base.BaseLayer):
    """What encoder and decoder layers share."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        _DefineShared(p)
        p.Define('feedforward', feedforward.FeedForward.Params(), 'The feed-forward part.')
        p.Define('norm', norm.LayerNorm.Params(), 'The norm of each part.', bound=base.BaseLayer)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        rate = p.residual_dropout_prob
        self.CreateChild('residual_dropout', dropout.Dropout.Params().Set(rate=rate))
        parts = ('model_dim', 'hidden_dim', 'relu_dropout_prob')
        self.CreateChild('feedforward', base.handed(p, 'feedforward', *parts))
        self._CreateNorm('feedforward_norm')

    def _CreateNorm(self, name: str) -> None:
        self.CreateChild(name, base.handed(self.params, 'norm', 'model_dim'))

    def _CreateAttention(self, name: str) -> None:
        parts = ('model_dim', 'num_heads', 'atten_dropout_prob')
        self.CreateChild(name, base.handed(self.params, name, *parts))
        self._CreateNorm(f'{name}_norm')

    def _Add(
        self, x: tf.Tensor, part: Callable[[tf.Tensor], tf.Tensor], layer_norm: base.BaseLayer
    ) -> tf.Tensor:
        """x and what `part` makes of it."""
        x = tf.cast(x, self.dtype)
        if self.params.pre_norm:
            return x + self.residual_dropout(part(layer_norm(x)))
        return layer_norm(x + self.residual_dropout(part(x)))


class TransformerEncoderLayer(_TransformerLayer):
    """Self-attention, then feed-forward, each with a residual connection.

    x: [batch, time, model_dim] -> [batch, time, model_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('self_attention', attention.SelfAttention.Params(), 'The attention.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._CreateAttention('self_attention')

    def FProp(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """mask: see `attention`, [batch, 1, 1 or time, time]."""
        x = self._Add(x, lambda h: self.self_attention(h, mask), self.self_attention_norm)
        return self._Add(x, self.feedforward, self.feedforward_norm)


class TransformerDecoderLayer(_TransformerLayer):
    """Self-attention, cross-attention, then feed-forward, each with a residual connection."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('self_attention', attention.SelfAttention.Params(), 'Attention to the target.')
        p.Define('cross_attention', attention.CrossAttention.Params(), 'Attention to the source.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._CreateAttention('self_attention')
        self._CreateAttention('cross_attention')

    def FProp(
        self,
        x: tf.Tensor,
        mask: tf.Tensor,
        source: tf.Tensor,
        source_mask: tf.Tensor,
        return_probs: bool = False,
    ) -> Union[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """One layer over whole sequences.

        Args:
          x: [batch, time, model_dim].
          mask: [batch, 1, time, time], causal.
          source: [batch, s, model_dim].
          source_mask: [batch, 1, 1, s].
          return_probs: whether to return the probabilities of the cross-attention too.

        Returns:
          [batch, time, model_dim]; with return_probs also float32 [batch, heads, time, s].
        """
        x = self._Add(x, lambda h: self.self_attention(h, mask), self.self_attention_norm)
        memory = self.cross_attention.Memory(source)
        return self._Finish(x, memory, source_mask, return_probs)

    def InitStates(self, source: tf.Tensor) -> tuple[NestedMap, NestedMap]:
        """source: [batch, s, model_dim] -> (empty cache, memory), see `attention`."""
        cache = self.self_attention.InitStates(tf.shape(source)[0])
        return cache, self.cross_attention.Memory(source)

    def ExtendStep(
        self,
        x: tf.Tensor,
        cache: NestedMap,
        memory: NestedMap,
        source_mask: tf.Tensor,
        return_probs: bool = False,
    ) -> tuple[tf.Tensor, NestedMap, Optional[tf.Tensor]]:
        """One position further.

        Args:
          x: [batch * beams, model_dim], the beams of a sentence side by side.
          cache: leaves [batch * beams, ...], from `InitStates` or the step before.
          memory: leaves [batch, ...], from `InitStates`.
          source_mask: [batch, 1, 1, s].
          return_probs: whether to return the probabilities of the cross-attention too.

        Returns:
          [batch * beams, model_dim], the next cache, and None; with return_probs, in place of
          None, float32 [batch, heads, beams, s].
        """
        new: list[NestedMap] = []

        def Attend(h: tf.Tensor) -> tf.Tensor:
            y, extended = self.self_attention.ExtendStep(h, cache)
            new.append(extended)
            return y

        x = self._Add(x, Attend, self.self_attention_norm)
        # To the source, the beams of a sentence are so many queries.
        out = self._Finish(x, memory, source_mask, return_probs)
        y, probs = out if return_probs else (out, None)
        return y, new[0], probs

    def _Finish(
        self, x: tf.Tensor, memory: NestedMap, source_mask: tf.Tensor, return_probs: bool
    ) -> Union[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Cross-attention and feed-forward."""
        probs = None

        def Attend(h: tf.Tensor) -> tf.Tensor:
            nonlocal probs
            y = self.cross_attention(h, memory, source_mask, return_probs)
            if return_probs:
                y, probs = y
            return y

        x = self._Add(x, Attend, self.cross_attention_norm)
        x = self._Add(x, self.feedforward, self.feedforward_norm)
        return (x, probs) if return_probs else x


class _TransformerStack(base.BaseLayer):
    """What the encoder and the decoder share."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        _DefineShared(p)
        p.Define('num_layers', REQUIRED, 'Number of layers.', type=int)
        p.Define('remat', False, 'Whether the backward pass computes each layer again.')
        p.Define('norm', norm.LayerNorm.Params(), 'The norm.', bound=base.BaseLayer)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        layer = base.handed(p, 'layer', *_SHARED, 'norm')
        self.CreateChildren('layers', [layer] * p.num_layers)
        if p.pre_norm:
            self.CreateChild('final_norm', base.handed(p, 'norm', 'model_dim'))

    def _Layer(self, layer: base.BaseLayer, *args: Any) -> Any:
        if self.params.remat and step.Current().training:
            return base.Remat(layer, *args)
        return layer(*args)

    def _Final(self, x: tf.Tensor) -> tf.Tensor:
        return self.final_norm(x) if self.params.pre_norm else x


class TransformerEncoder(_TransformerStack):
    """A stack of encoder layers."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('layer', TransformerEncoderLayer.Params(), 'Each layer.', bound=base.BaseLayer)
        return p

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """Encodes.

        Args:
          x: [batch, time, model_dim], embedded.
          paddings: [batch, time].

        Returns:
          [batch, time, model_dim]. What stands at paddings means nothing.
        """
        mask = attention.padding_mask(paddings)
        for layer in self.layers:
            x = self._Layer(layer, x, mask)
        return self._Final(x)


class TransformerDecoder(_TransformerStack):
    """A stack of decoder layers: over whole sequences, or step by step."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('layer', TransformerDecoderLayer.Params(), 'Each layer.', bound=base.BaseLayer)
        return p

    def FProp(
        self,
        x: tf.Tensor,
        paddings: tf.Tensor,
        source: tf.Tensor,
        source_paddings: tf.Tensor,
        return_attention: bool = False,
    ) -> Union[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Decodes known targets.

        Args:
          x: [batch, time, model_dim], embedded.
          paddings: [batch, time].
          source: [batch, s, model_dim], from the encoder.
          source_paddings: [batch, s].
          return_attention: whether to return the last layer's cross-attention too.

        Returns:
          [batch, time, model_dim]; with return_attention also float32 [batch, time, s], the mean
          over heads.
        """
        x = tf.cast(x, self.dtype)
        mask = attention.causal_mask(paddings)
        source_mask = attention.padding_mask(source_paddings)
        probs = None
        for layer in self.layers:
            if return_attention and layer is self.layers[-1]:
                x, probs = layer(x, mask, source, source_mask, True)
            else:
                x = self._Layer(layer, x, mask, source, source_mask)
        x = self._Final(x)
        return (x, tf.reduce_mean(probs, axis=1)) if return_attention else x

    def InitStates(self, source: tf.Tensor, source_paddings: tf.Tensor) -> NestedMap:
        """The state before the first step.

        Args:
          source: [batch, s, model_dim], from the encoder.
          source_paddings: [batch, s].

        Returns:
          cache: one row a hypothesis, here one a sentence; leaves [rows, heads, t, head_dim] grow
            along axis 2. A search repeats and gathers the rows.
          source: one row a sentence, for all of its hypotheses. A search may drop sentences.
        """
        state = NestedMap(
            cache=NestedMap(), source=NestedMap(mask=attention.padding_mask(source_paddings))
        )
        for i, layer in enumerate(self.layers):
            name = f'layers_{i}'
            state.cache[name], state.source[name] = layer.InitStates(source)
        return state

    def ExtendStep(
        self, x: tf.Tensor, state: NestedMap, return_attention: bool = False
    ) -> Union[tuple[tf.Tensor, NestedMap], tuple[tf.Tensor, NestedMap, tf.Tensor]]:
        """One position further.

        Args:
          x: [batch * beams, model_dim], embedded; the beams of a sentence stand side by side.
          state: from `InitStates`, with its cache repeated for each beam, or the step before.
          return_attention: whether to return the last layer's cross-attention too.

        Returns:
          [batch * beams, model_dim] and the next state; with return_attention also float32
          [batch * beams, s], the mean over heads.
        """
        cache = NestedMap()
        probs: Optional[tf.Tensor] = None
        for i, layer in enumerate(self.layers):
            name = f'layers_{i}'
            wanted = return_attention and layer is self.layers[-1]
            x, cache[name], probs = layer.ExtendStep(
                x, state.cache[name], state.source[name], state.source.mask, wanted
            )
        x = self._Final(x)
        state = NestedMap(cache=cache, source=state.source)
        if not return_attention:
            return x, state
        # [batch, heads, beams, s] -> [batch * beams, s]
        probs = tf.reduce_mean(probs, axis=1)
        return x, state, tf.reshape(probs, [-1, tf.shape(probs)[2]])
