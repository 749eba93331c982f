"""A beam search in plain TensorFlow: what ours is measured against.

Made from the fastest exact variants that were tried on two CPU cores: queries, keys and values from
one product; a cache that grows by concatenation and is gathered by beam; keys and values of the
source once a sentence, not once a beam; the k best tokens by blocks; the log-normalizer without a
shift (exact for logits below 88); a transposed, cast output matrix outside of the loop; finished
sentences leave the batch in the step in which they finish.

One hypothesis a sentence, no coverage penalty; otherwise the results of
`decoding.beam_search.beam_search`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from . import transformer_by_hand as by_hand

_NONE = -float('inf')


class SearchByHand:
    """Searches with a Transformer; `search` is the tf.function.

    Args:
      model: the weights.
      beam_size: open hypotheses a sentence.
      alpha: of the length normalization.
      bos_id, eos_id: of the vocabulary.
      block: size of the blocks in which the best tokens are looked for; it divides the vocabulary.
    """

    def __init__(
        self,
        model: by_hand.Transformer,
        beam_size: int,
        alpha: float,
        bos_id: int,
        eos_id: int,
        block: int,
    ):
        self._model = model
        self._beam = beam_size
        self._alpha = alpha
        self._bos_id, self._eos_id = bos_id, eos_id
        self._block = block
        self._weights: by_hand.Weights = {}
        ids, paddings = (tf.TensorSpec([None, None], dtype) for dtype in (tf.int32, tf.float32))
        limits = tf.TensorSpec([None], tf.int32)
        self.search = tf.function(
            self._search, autograph=False, input_signature=[ids, paddings, limits]
        )

    def _search(self, source: tf.Tensor, paddings: tf.Tensor, limits: tf.Tensor) -> Any:
        """Translates.

        Args:
          source: int32 [batch, s]; none empty.
          paddings: float32 [batch, s].
          limits: int32 [batch], most tokens of a hypothesis with </s>, at least 1.

        Returns:
          ids int32 [batch, largest limit], lengths int32 [batch] without </s>, scores [batch].
        """
        model, k = self._model, self._beam
        weights = model.weights()
        weights['softmax'] = tf.transpose(weights['softmax'])
        self._weights = weights
        batch, time = tf.size(limits), tf.shape(source)[1]
        mask = by_hand.padding_mask(paddings)
        x = model.positioned(model.embed(weights, tf.reshape(source, [-1])), time)
        x = model.encode(weights, x, mask, lambda rows: rows)
        layers = [f'decoder/layers_{i}' for i in range(model.num_layers)]
        memory = [kv for layer in layers for kv in model.memory(weights, layer, x, batch)]
        size = model.dim // model.num_heads
        cache = [tf.zeros([batch * k, model.num_heads, 0, size], model.dtype)] * (2 * len(layers))
        longest = tf.reduce_max(limits)
        state = (
            tf.constant(0),
            tf.range(batch),
            limits,
            tf.fill([batch, k], self._bos_id),
            tf.tile([[0.0] + [_NONE] * (k - 1)], [batch, 1]),
            tf.zeros([batch, k, 0], tf.int32),
            # The best finished hypothesis: score, length, ids.
            tf.fill([batch], _NONE),
            tf.zeros([batch], tf.int32),
            tf.zeros([batch, 0], tf.int32),
            # What is known of the source.
            [mask, *memory],
            cache,
            # What comes out: scores, lengths, ids of the whole batch.
            tf.fill([batch], _NONE),
            tf.zeros([batch], tf.int32),
            tf.zeros([batch, longest], tf.int32),
        )
        grows = {id(x) for x in [state[5], state[8], *cache]}
        shapes = tf.nest.map_structure(lambda x: self._invariant(x, id(x) in grows), state)
        out = tf.while_loop(
            lambda t, index, *_: tf.size(index) > 0, self._step, state, shape_invariants=shapes
        )
        scores, lengths, ids = out[-3:]
        return ids, lengths, scores

    @staticmethod
    def _invariant(x: tf.Tensor, grows: bool) -> tf.TensorShape:
        """Rows may leave; ids, [..., time], and caches, [rows, heads, time, size], may grow."""
        shape = x.shape.as_list()
        if shape:
            shape[0] = None
        if grows:
            shape[2 if len(shape) == 4 else -1] = None
        return tf.TensorShape(shape)

    def _step(
        self,
        t: tf.Tensor,
        index: tf.Tensor,
        limits: tf.Tensor,
        tokens: tf.Tensor,
        scores: tf.Tensor,
        ids: tf.Tensor,
        best: tf.Tensor,
        best_length: tf.Tensor,
        best_ids: tf.Tensor,
        source: list[tf.Tensor],
        cache: list[tf.Tensor],
        out_scores: tf.Tensor,
        out_lengths: tf.Tensor,
        out_ids: tf.Tensor,
    ) -> tuple[Any, ...]:
        """One token further; a sentences with k beams each are in the batch."""
        k = self._beam
        logits, cache = self._logits(t, tf.reshape(tokens, [-1]), source, cache)
        values, found = self._top_k(logits, k + 1)
        log_z = tf.math.log(tf.reduce_sum(tf.exp(logits), axis=1, keepdims=True))
        # [a * k, k + 1] -> [a, k * (k + 1)]
        added = tf.reshape(values - log_z, [-1, k, k + 1])
        candidates = tf.reshape(scores[:, :, tf.newaxis] + added, [-1, k * (k + 1)])
        found = tf.reshape(found, [-1, k * (k + 1)])
        ends = tf.equal(found, self._eos_id)
        last = t + 1 >= limits

        # What ends: </s> among the k best, or, at the limit, every hypothesis.
        top, at = tf.math.top_k(candidates, k)
        ending = tf.where(tf.gather(ends, at, batch_dims=1), top, _NONE)
        closed = scores + tf.reshape(logits[:, self._eos_id : self._eos_id + 1] - log_z, [-1, k])
        ending = tf.where(last[:, tf.newaxis], closed, ending)
        beams = tf.where(last[:, tf.newaxis], tf.range(k), at // (k + 1))
        ending, which = tf.math.top_k(ending / self._penalty(t + 1), 1)
        ending = ending[:, 0]
        better = ending > best
        chosen = tf.gather(beams, which, batch_dims=1)
        ended = tf.gather(ids, chosen, batch_dims=1)[:, 0]
        best = tf.where(better, ending, best)
        best_length = tf.where(better, t, best_length)
        best_ids = tf.where(better[:, tf.newaxis], ended, best_ids)

        # What stays open.
        scores, at = tf.math.top_k(tf.where(ends, _NONE, candidates), k)
        tokens = tf.gather(found, at, batch_dims=1)
        parents = at // (k + 1)
        hope = scores[:, 0] / self._penalty(limits)
        done = last | (hope <= best)

        def leave() -> Any:
            left = tf.where(done)[:, 0]
            rows = tf.gather(index, left)[:, tf.newaxis]
            padding = [[0, 0], [0, tf.shape(out_ids)[1] - t]]
            return (
                tf.tensor_scatter_nd_update(out_scores, rows, tf.gather(best, left)),
                tf.tensor_scatter_nd_update(out_lengths, rows, tf.gather(best_length, left)),
                tf.tensor_scatter_nd_update(
                    out_ids, rows, tf.pad(tf.gather(best_ids, left), padding)
                ),
                [tf.gather(x, kept) for x in (*rest, *source)],
            )

        rest = [index, limits, best, best_length, best_ids, tokens, scores, parents, ids]
        kept = tf.cast(tf.where(~done)[:, 0], tf.int32)
        out_scores, out_lengths, out_ids, stay = tf.cond(
            tf.reduce_any(done),
            leave,
            lambda: (out_scores, out_lengths, out_ids, [*rest, *source]),
        )
        index, limits, best, best_length, best_ids, tokens, scores, parents, ids = stay[:9]
        rows = tf.reshape(kept[:, tf.newaxis] * k + parents, [-1])
        cache = [tf.gather(x, rows) for x in cache]
        ids = tf.concat([tf.gather(ids, parents, batch_dims=1), tokens[:, :, tf.newaxis]], axis=2)
        best_ids = tf.pad(best_ids, [[0, 0], [0, 1]])
        finished = (best, best_length, best_ids)
        out = (out_scores, out_lengths, out_ids)
        return t + 1, index, limits, tokens, scores, ids, *finished, stay[9:], cache, *out

    def _logits(
        self, t: tf.Tensor, tokens: tf.Tensor, source: list[tf.Tensor], cache: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """tokens: [a * k] -> float32 [a * k, vocab], and the cache with one position more."""
        model, weights = self._model, self._weights
        size = model.dim // model.num_heads
        mask, *memory = source
        sentences = tf.shape(mask)[0]
        x = tf.cast(model.embed(weights, tokens), model.dtype) + model.position(t)
        longer = []
        for i in range(model.num_layers):
            layer = f'decoder/layers_{i}'
            h = model.norm(weights, f'{layer}/self_attention_norm', x)
            qkv = by_hand.linear(weights, f'{layer}/self_attention/qkv', h)
            # [a * k, 3 * dim] -> 3 of [a * k, heads, 1, size]
            q, key, value = tf.split(tf.reshape(qkv, [-1, 3 * model.num_heads, 1, size]), 3, axis=1)
            key = tf.concat([cache[2 * i], key], axis=2)
            value = tf.concat([cache[2 * i + 1], value], axis=2)
            longer += [key, value]
            x += model.attend(weights, f'{layer}/self_attention', q, key, value, None)
            h = model.norm(weights, f'{layer}/cross_attention_norm', x)
            query = by_hand.linear(weights, f'{layer}/cross_attention/query', h)
            (q,) = model.heads(query, sentences, 1)
            key, value = memory[2 * i : 2 * i + 2]
            x += model.attend(weights, f'{layer}/cross_attention', q, key, value, mask)
            h = model.norm(weights, f'{layer}/feedforward_norm', x)
            x += by_hand.feedforward(weights, layer, h)
        x = model.norm(weights, 'decoder/final_norm', x)
        return tf.cast(tf.matmul(x, weights['softmax']), tf.float32), longer

    def _top_k(self, x: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The k best of each row, exactly: they stand in the k blocks with the largest maxima."""
        block = self._block
        blocks = tf.reshape(x, [-1, x.shape[1] // block, block])
        _, chosen = tf.math.top_k(tf.reduce_max(blocks, axis=2), k)
        values, at = tf.math.top_k(
            tf.reshape(tf.gather(blocks, chosen, batch_dims=1), [-1, k * block]), k
        )
        return values, tf.gather(chosen, at // block, batch_dims=1) * block + at % block

    def _penalty(self, length: tf.Tensor) -> tf.Tensor:
        return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, self._alpha)
