"""The decoder of Listen, Attend and Spell."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams, layers, step
from lingvo_lite.hyperparams import Self
from lingvo_lite.layers.recurrent import recurrence
from lingvo_lite.nested_map import NestedMap


class AsrDecoder(layers.BaseLayer):
    """LSTMs that spell, and look at the source before each token.

        h1_t = LSTM1([embedding of y_{t-1}, context_{t-1}]);  context_t = attention(h1_t)
        hn_t = LSTMn([hn-1_t, context_t]);  p(y_t) = softmax([hn_t, context_t])

    Source: Chan et al., arXiv 1508.01211, section 3.2; sizes and first values as in Lingvo.

    ids: int [batch, time], <s> and the tokens -> [batch, time, output_dim], for `self.softmax`.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('vocab_size', 96, 'Number of tokens.')
        p.Define('emb_dim', 96, 'Size of the token embedding.')
        p.Define('emb', layers.Embedding.Params(), 'Token embedding.', bound=layers.BaseLayer)
        p.Define('rnn_cell_tpl', layers.LSTMCell.Params(), 'Each cell.', bound=layers.BaseLayer)
        p.Define('rnn_cell_dim', 256, 'Size of each cell.')
        p.Define('rnn_layers', 1, 'Number of cells over each other.')
        p.Define('source_dim', 512, 'Size of what the encoder returns.')
        p.Define(
            'attention',
            layers.AdditiveAttention.Params(),
            'How it looks at the source.',
            bound=layers.BaseLayer,
        )
        p.Define('dropout_prob', 0.0, 'Dropout rate of the embeddings and before the softmax.')
        p.Define('softmax', layers.SoftmaxLoss.Params(), 'Output and loss.')
        p.Define(
            'use_while_loop_based_unrolling',
            True,
            'Whether gradients come from a tf.while_loop, which keeps all that is computed in each '
            'step; if not, the backward pass computes the steps again (`layers.recurrence`).',
        )
        p.emb.params_init = layers.WeightInit.Uniform(1.0)
        p.rnn_cell_tpl.params_init = layers.WeightInit.Uniform(0.1)
        p.attention.hidden_dim = 128
        p.attention.params_init = layers.WeightInit.UniformSqrtDim(math.sqrt(3.0))
        p.softmax.params_init = layers.WeightInit.Uniform(0.1)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'rnn_layers', at_least=1)

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateChild('dropout', layers.Dropout.Params().Set(rate=p.dropout_prob))
        self.CreateChild('emb', layers.handed(p, 'emb', 'vocab_size', model_dim=p.emb_dim))
        first = self._Cell(p.emb_dim + p.source_dim)
        with layers.ShapesOnly():
            dim = first.Copy().Instantiate().output_dim
        others = [self._Cell(dim + p.source_dim) for _ in range(p.rnn_layers - 1)]
        self.CreateChildren('rnn', [first, *others])
        self.CreateChild('attention', layers.handed(p, 'attention', 'source_dim', query_dim=dim))
        self.CreateChild(
            'softmax', layers.handed(p, 'softmax', 'vocab_size', model_dim=dim + p.source_dim)
        )

    def FProp(
        self,
        ids: tf.Tensor,
        source: tf.Tensor,
        source_paddings: tf.Tensor,
        return_attention: bool = False,
    ) -> Any:
        """Spells known targets.

        Args:
          ids: int [batch, time], <s> and the tokens.
          source: [batch, s, source_dim], from the encoder.
          source_paddings: [batch, s].
          return_attention: whether to return the attention too.

        Returns:
          [batch, time, output_dim]; with return_attention also float32 [batch, time, s].
        """
        memory = self.attention.Memory(source, source_paddings)
        # [batch, time] -> [time, batch, emb_dim]
        x = self.dropout(self.emb(tf.transpose(ids)))
        outputs, _ = layers.recur(
            self._Step,
            self._Matrices(memory),
            self._Shared(memory),
            self._Inputs(x, memory),
            self._InitCache(memory),
            use_while_loop_based_unrolling=(
                self.params.use_while_loop_based_unrolling or not step.Current().training
            ),
        )
        # [time, batch, ...] -> [batch, time, ...]
        y = self.dropout(tf.transpose(outputs.y, [1, 0, 2]))
        return (y, tf.transpose(outputs.probs, [1, 0, 2])) if return_attention else y

    def InitStates(self, source: tf.Tensor, source_paddings: tf.Tensor) -> NestedMap:
        """The state before the first step, for a search.

        Args:
          source: [batch, s, source_dim].
          source_paddings: [batch, s].

        Returns:
          cache: one row a hypothesis, here one a sentence.
          source: one row a sentence.
        """
        memory = self.attention.Memory(source, source_paddings)
        return NestedMap(cache=self._InitCache(memory), source=memory)

    def ExtendStep(
        self, ids: tf.Tensor, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap, tf.Tensor]:
        """One token further.

        Args:
          ids: int [rows], the last token of each hypothesis.
          state: from `InitStates`, with its cache repeated for each beam, or the step before.

        Returns:
          [rows, output_dim], the next state, and the attention, float32 [rows, s].
        """
        x, before = self.emb(ids), state.cache
        after, context, probs = NestedMap(), before.context, None
        for n, cell in enumerate(self.rnn):
            name = f'rnn_{n}'
            x, after[name] = cell.FProp(tf.concat([x, context], axis=1), before[name])
            if probs is None:
                context, probs, after.attention = self.attention.ExtendStep(
                    x, state.source, before.attention
                )
        after.context = context
        y = tf.concat([x, context], axis=1)
        return y, NestedMap(cache=after, source=state.source), probs

    def _Cell(self, input_dim: int) -> Any:
        cell_dim = self.params.rnn_cell_dim
        return layers.handed(self.params, 'rnn_cell_tpl', input_dim=input_dim, cell_dim=cell_dim)

    def _InitCache(self, memory: NestedMap) -> NestedMap:
        batch = tf.shape(memory.looks)[0]
        cache = NestedMap({f'rnn_{n}': cell.InitStates(batch) for n, cell in enumerate(self.rnn)})
        cache.context = tf.zeros([batch, self.params.source_dim], self.dtype)
        cache.attention = self.attention.InitStates(memory)
        return cache

    def _Matrices(self, memory: NestedMap) -> dict[str, tf.Tensor]:
        """What `_Step` multiplies with: w_n with the context, and with the cell below."""
        matrices = self.attention.Matrices(memory)
        for n, cell in enumerate(self.rnn):
            # The embeddings, first in the input, are multiplied in front of the loop.
            start = 0 if n else self.params.emb_dim
            matrices[f'w_{n}'] = cell.InputMatrix(start, cell.params.input_dim)
            matrices.update({f'{name}_{n}': w for name, w in cell.Matrices().items()})
        return matrices

    def _Shared(self, memory: NestedMap) -> NestedMap:
        shared = NestedMap(attention=self.attention.Shared(memory))
        for n, cell in enumerate(self.rnn):
            shared[f'rnn_{n}'] = cell.Shared()
            if n:
                shared[f'bias_{n}'] = cell.InputBias()
        return shared

    def _Inputs(self, x: tf.Tensor, memory: NestedMap) -> NestedMap:
        """x: [time, batch, emb_dim] -> what enters each step: leaves [time, ...]."""
        time, batch = tf.unstack(tf.shape(x)[:2])
        inputs = NestedMap(
            gates=self.rnn[0].Project(x), attention=self.attention.Noise(time, memory)
        )
        for n, cell in enumerate(self.rnn):
            inputs[f'rnn_{n}'] = cell.Noise(time, batch)
        return inputs

    def _Step(
        self, product: recurrence.Product, shared: NestedMap, inputs: NestedMap, state: NestedMap
    ) -> tuple[NestedMap, NestedMap]:
        """The cell for `recurrence.recur`, which is `ExtendStep` after the embedding."""
        after, x, context, probs = NestedMap(), None, state.context, None
        for n, cell in enumerate(self.rnn):
            name = f'rnn_{n}'

            def Own(part: str, a: tf.Tensor, n: int = n) -> tf.Tensor:
                return product(f'{part}_{n}', a)

            if n:
                gates = Own('w', tf.concat([x, context], axis=1)) + shared[f'bias_{n}']
            else:
                gates = inputs.gates + Own('w', context)
            entering = NestedMap(x=gates, **inputs[name])
            x, after[name] = cell.Step(Own, shared[name], entering, state[name])
            if probs is None:
                context, probs, after.attention = self.attention.Step(
                    product, shared.attention, inputs.attention, x, state.attention
                )
        after.context = context
        return NestedMap(y=tf.concat([x, context], axis=1), probs=probs), after
