"""Attention of a recurrent decoder: one query at a time, and a state from step to step.

What is looked at, the memory, is made once (`Memory`). A step is a function that can stand inside
of a cell of `recurrence.recur` (`Step`); `Matrices`, `Shared` and `Noise` are what it reads.

In the shapes: rows queries, k = rows / batch of them (the beams of a search) for each of the batch
memories, side by side; s source positions. Probabilities are float32, and zeros where the memory is
padding; over a memory that is all padding they are zeros, and so is the context.
"""

from __future__ import annotations

from typing import Union

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.layers.attention import MASKED
from lingvo_lite.layers.initializers import WeightInit
from lingvo_lite.layers.recurrent import recurrence
from lingvo_lite.nested_map import NestedMap


class _RecurrentAttention(base.BaseLayer):
    """What all kinds share: keys, the product of probabilities and source, and the loop."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('source_dim', REQUIRED, 'Size of what is looked at, and of the context.', type=int)
        p.Define('query_dim', REQUIRED, 'Size of a query.', type=int)
        p.Define('hidden_dim', REQUIRED, 'Size of the space where both meet.', type=int)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('w_source', base.Weight([p.source_dim, p.hidden_dim]))
        self.CreateVariable('w_query', base.Weight([p.query_dim, p.hidden_dim]))

    def FProp(self, queries: tf.Tensor, source: tf.Tensor, source_paddings: tf.Tensor) -> tf.Tensor:
        """The contexts of queries in their order.

        Args:
          queries: [batch, time, query_dim].
          source: [batch, s, source_dim].
          source_paddings: [batch, s].

        Returns:
          [batch, time, source_dim].
        """
        memory = self.Memory(source, source_paddings)

        def Cell(
            product: recurrence.Product, shared: NestedMap, x: NestedMap, state: NestedMap
        ) -> tuple[tf.Tensor, NestedMap]:
            context, _, state = self.Step(product, shared, x, x.query, state)
            return context, state

        # [batch, time, query_dim] -> [time, batch, query_dim]
        queries = tf.transpose(tf.cast(queries, self.dtype), [1, 0, 2])
        contexts, _ = recurrence.recur(
            Cell,
            self.Matrices(memory),
            self.Shared(memory),
            NestedMap(query=queries, **self.Noise(tf.shape(queries)[0], memory)),
            self.InitStates(memory),
            use_while_loop_based_unrolling=not step.Current().training,
        )
        return tf.transpose(contexts, [1, 0, 2])

    def ExtendStep(
        self, query: tf.Tensor, memory: NestedMap, state: NestedMap
    ) -> tuple[tf.Tensor, tf.Tensor, NestedMap]:
        """One query of each row.

        Args:
          query: [rows, query_dim].
          memory: from `Memory`.
          state: leaves [rows, ...], from `InitStates` or the step before.

        Returns:
          The context [rows, source_dim], the probabilities float32 [rows, s], the next state.
        """
        matrices = self.Matrices(memory)
        inputs = self.Noise(1, memory).Transform(lambda noise: noise[0])
        return self.Step(
            lambda name, a: recurrence.times(a, matrices[name]),
            self.Shared(memory),
            inputs,
            tf.cast(query, self.dtype),
            state,
        )

    def Memory(self, source: tf.Tensor, source_paddings: tf.Tensor) -> NestedMap:
        """What there is to look at.

        Args:
          source: [batch, s, source_dim].
          source_paddings: [batch, s].

        Returns:
          key, whose form depends on the kind, value [batch, s, source_dim], and looks, bool
          [batch, s].
        """
        source = tf.cast(source, self.dtype)
        key = recurrence.times(source, tf.convert_to_tensor(self.theta.w_source))
        return NestedMap(key=key, value=source, looks=source_paddings < 0.5)

    def InitStates(self, memory: NestedMap) -> NestedMap:
        """The state before the first step, of one row for each memory."""
        del memory
        return NestedMap()

    def Matrices(self, memory: NestedMap) -> dict[str, tf.Tensor]:
        """What `Step` multiplies with; see `recurrence`."""
        return {'query': tf.convert_to_tensor(self.theta.w_query), 'value': memory.value}

    def Shared(self, memory: NestedMap) -> NestedMap:
        """What else `Step` reads."""
        return NestedMap(looks=memory.looks)

    def Noise(self, time: Union[int, tf.Tensor], memory: NestedMap) -> NestedMap:
        """Random draws for all steps, [time, ...], which are inputs of the recurrence."""
        del time, memory
        return NestedMap()

    def Step(
        self,
        product: recurrence.Product,
        shared: NestedMap,
        inputs: NestedMap,
        query: tf.Tensor,
        state: NestedMap,
    ) -> tuple[tf.Tensor, tf.Tensor, NestedMap]:
        """The function of one step; see `ExtendStep`.

        Args:
          product: see `recurrence`.
          shared: from `Shared`.
          inputs: of one step, from `Noise`.
          query: [rows, query_dim].
          state: leaves [rows, ...].
        """
        # [rows, hidden_dim] -> [batch, k, hidden_dim]
        q = product('query', query)
        q = tf.reshape(q, [tf.shape(shared.looks)[0], -1, self.params.hidden_dim])
        # [batch, k, s]
        energies = tf.cast(self._Energies(product, shared, q, state), tf.float32)
        probs = self._Probs(energies, shared, inputs, state)
        context = product('value', tf.cast(probs, self.dtype))
        # [batch, k, ...] -> [rows, ...]
        context = tf.reshape(context, [-1, self.params.source_dim])
        probs = tf.reshape(probs, [-1, tf.shape(probs)[2]])
        return context, probs, self._NextState(probs, state)

    def _Energies(
        self, product: recurrence.Product, shared: NestedMap, q: tf.Tensor, state: NestedMap
    ) -> tf.Tensor:
        """q: [batch, k, hidden_dim] -> [batch, k, s]."""
        raise NotImplementedError(f'{type(self).__name__}._Energies')

    def _Probs(
        self, energies: tf.Tensor, shared: NestedMap, inputs: NestedMap, state: NestedMap
    ) -> tf.Tensor:
        """float32 [batch, k, s] -> probabilities."""
        del inputs, state
        return masked_softmax(energies, shared.looks[:, tf.newaxis])

    def _NextState(self, probs: tf.Tensor, state: NestedMap) -> NestedMap:
        """probs: [rows, s]."""
        del probs
        return state


class DotAttention(_RecurrentAttention):
    """e_s = (q w_query) . (h_s w_source) / sqrt(hidden_dim) (after Luong et al., 2015, 'general').

    queries: [batch, time, query_dim], source: [batch, s, source_dim] -> [batch, time, source_dim].
    """

    def Memory(self, source: tf.Tensor, source_paddings: tf.Tensor) -> NestedMap:
        memory = super().Memory(source, source_paddings)
        # [batch, s, hidden_dim] -> [batch, hidden_dim, s]
        memory.key = tf.transpose(memory.key, [0, 2, 1])
        return memory

    def Matrices(self, memory: NestedMap) -> dict[str, tf.Tensor]:
        return {'key': memory.key, **super().Matrices(memory)}

    def _Energies(
        self, product: recurrence.Product, shared: NestedMap, q: tf.Tensor, state: NestedMap
    ) -> tf.Tensor:
        del shared, state
        return product('key', q * tf.cast(self.params.hidden_dim**-0.5, q.dtype))


class AdditiveAttention(_RecurrentAttention):
    """e_s = v . tanh(q w_query + h_s w_source + b) (Bahdanau et al., arXiv 1409.0473, A.1.2).

    queries: [batch, time, query_dim], source: [batch, s, source_dim] -> [batch, time, source_dim].

    With `normalized`, g v / |v| stands for v (weight normalization, Salimans and Kingma, 2016).
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('normalized', False, 'Whether the length of v is a variable of its own.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('b', base.Bias(p.hidden_dim))
        self.CreateVariable('v', base.Weight([p.hidden_dim]))
        if p.normalized:
            length = WeightInit.Constant(p.hidden_dim**-0.5)
            self.CreateVariable('g', base.Weight([], init=length, regularize=False))

    def Memory(self, source: tf.Tensor, source_paddings: tf.Tensor) -> NestedMap:
        memory = super().Memory(source, source_paddings)
        memory.key += self.theta.b
        return memory

    def Shared(self, memory: NestedMap) -> NestedMap:
        shared = super().Shared(memory)
        shared.key = memory.key
        v = tf.convert_to_tensor(self.theta32.v)
        if self.params.normalized:
            v = self.theta32.g * tf.math.l2_normalize(v)
        shared.v = tf.cast(v, self.dtype)
        return shared

    def _Energies(
        self, product: recurrence.Product, shared: NestedMap, q: tf.Tensor, state: NestedMap
    ) -> tf.Tensor:
        del product
        # [batch, k, 1, hidden_dim] and [batch, 1, s, hidden_dim]
        terms = q[:, :, tf.newaxis] + shared.key[:, tf.newaxis]
        hidden = tf.tanh(self._Located(terms, shared, state))
        # [batch, k, s, hidden_dim] -> [batch, k, s]
        energies = tf.matmul(
            tf.reshape(hidden, [-1, self.params.hidden_dim]), shared.v[:, tf.newaxis]
        )
        return tf.reshape(energies, tf.shape(hidden)[:3])

    def _Located(self, terms: tf.Tensor, shared: NestedMap, state: NestedMap) -> tf.Tensor:
        """terms: [batch, k, s, hidden_dim], with what earlier steps add."""
        del shared, state
        return terms


class LocationSensitiveAttention(AdditiveAttention):
    """e_s = v . tanh(q w_query + h_s w_source + f_s w_location + b), f = convolution of a.

    a are the probabilities of the step before (Chorowski et al., arXiv 1506.07503, section 2.1) or,
    `cumulative`, their sum over all steps before (Shen et al., arXiv 1712.05884, section 2.2).

    queries: [batch, time, query_dim], source: [batch, s, source_dim] -> [batch, time, source_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('location_filters', 32, 'Channels of f.')
        p.Define('location_kernel_size', 31, 'Source positions that f_s looks at; odd.')
        p.Define('cumulative', True, 'Whether a is the sum over all steps before.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.Require(p, p.location_kernel_size % 2 == 1, 'location_kernel_size', 'odd')

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        kernel = [p.location_kernel_size, 1, p.location_filters]
        self.CreateVariable('filters', base.Weight(kernel))
        self.CreateVariable('w_location', base.Weight([p.location_filters, p.hidden_dim]))

    def InitStates(self, memory: NestedMap) -> NestedMap:
        return NestedMap(seen=tf.zeros(tf.shape(memory.looks)))

    def Shared(self, memory: NestedMap) -> NestedMap:
        shared = super().Shared(memory)
        shared.filters = tf.convert_to_tensor(self.theta32.filters)
        shared.w_location = tf.convert_to_tensor(self.theta.w_location)
        return shared

    def _Located(self, terms: tf.Tensor, shared: NestedMap, state: NestedMap) -> tf.Tensor:
        # [rows, s, 1] -> [rows, s, filters]: float32, as probabilities are. [rows, s, hidden_dim]
        features = tf.nn.conv1d(state.seen[:, :, tf.newaxis], shared.filters, 1, 'SAME')
        located = recurrence.times(tf.cast(features, self.dtype), shared.w_location)
        return terms + tf.reshape(located, tf.shape(terms))

    def _NextState(self, probs: tf.Tensor, state: NestedMap) -> NestedMap:
        return NestedMap(seen=state.seen + probs if self.params.cumulative else probs)


def masked_softmax(energies: tf.Tensor, looks: tf.Tensor) -> tf.Tensor:
    """softmax over the last axis where `looks`; zeros elsewhere, and where there is nothing.

    Args:
      energies: float32.
      looks: bool, broadcasts to energies.
    """
    probs = tf.nn.softmax(tf.where(looks, energies, MASKED))
    return tf.where(looks, probs, 0.0)
