"""Following one token at a time: the most probable one, or one drawn at random."""

from __future__ import annotations

from typing import Callable, Optional

import tensorflow as tf

from lingvo_lite.decoding import live_batch, penalties, scorers, top_k
from lingvo_lite.nested_map import NestedMap

_DRAWS_A_SEED = 64


def greedy_search(
    scorer: scorers.Scorer, max_lengths: tf.Tensor, length_normalization: float = 0.0
) -> NestedMap:
    """The most probable token at each step; of equal ones the lowest id.

    Equals `beam_search` with a beam of 1 and length_normalization 0. A hypothesis that is still
    open when one token is left before its limit is closed by </s> and pays for it.

    Args:
      scorer: the model.
      max_lengths: int32 [batch], limit of tokens in a hypothesis, </s> included; 0 on fill rows.
      length_normalization: alpha of `penalties.length_penalty`.

    Returns:
      NestedMap as `search.Search.Decode` describes it.
    """

    def Choose(
        logits: tf.Tensor, position: tf.Tensor, live: NestedMap
    ) -> tuple[tf.Tensor, tf.Tensor]:
        values, ids = top_k.top_k(logits, 1)
        return ids[:, 0], top_k.log_normalizer(logits, values, ids)[:, 0]

    return _follow(scorer, max_lengths, 1, Choose, length_normalization, NestedMap())


def sample(
    scorer: scorers.Scorer,
    max_lengths: tf.Tensor,
    example_ids: tf.Tensor,
    seed: int,
    num_hyps: int = 1,
    temperature: float = 1.0,
    keep: Optional[int] = None,
    nucleus: float = 1.0,
    length_normalization: float = 0.0,
) -> NestedMap:
    """Hypotheses drawn from the model's distribution, as `sample_tokens` changes it.

    Draws follow from (seed, example id, number of the hypothesis, position) and from nothing else,
    so a sample does not depend on the batch it is drawn in. Hypotheses are returned in the order
    in which they were drawn and may be equal. Their scores are what the model itself says, before
    temperature, top-k and nucleus. A hypothesis that is still open when one token is left before
    its limit is closed by </s>, which the score includes.

    Args:
      scorer: the model.
      max_lengths: int32 [batch], limit of tokens in a hypothesis, </s> included; 0 on fill rows.
      example_ids: int [batch], what tells one example from another.
      seed: any int.
      num_hyps: hypotheses drawn for each example.
      temperature: see `sample_tokens`.
      keep: see `sample_tokens`.
      nucleus: see `sample_tokens`.
      length_normalization: alpha of `penalties.length_penalty`.

    Returns:
      NestedMap as `search.Search.Decode` describes it.
    """
    longest = tf.reduce_max(tf.concat([[0], tf.cast(max_lengths, tf.int32)], axis=0))

    def Choose(
        logits: tf.Tensor, position: tf.Tensor, live: NestedMap
    ) -> tuple[tf.Tensor, tf.Tensor]:
        draws = tf.reshape(live.draws[:, :, position], [-1])
        ids = sample_tokens(logits, draws, temperature, keep, nucleus)
        return ids, tf.reduce_logsumexp(logits, axis=-1)

    extra = NestedMap(draws=uniform_draws(seed, example_ids, num_hyps, longest))
    return _follow(scorer, max_lengths, num_hyps, Choose, length_normalization, extra)


def sample_tokens(
    logits: tf.Tensor,
    draws: tf.Tensor,
    temperature: float = 1.0,
    keep: Optional[int] = None,
    nucleus: float = 1.0,
) -> tf.Tensor:
    """One token a row, by inverting the cumulative distribution at a uniform draw.

    Args:
      logits: float32 [rows, vocab].
      draws: float32 [rows] in [0, 1).
      temperature: logits are divided by it; above 0.
      keep: only that many most probable tokens can be drawn (top-k, Fan et al. 2018); None: all.
      nucleus: of these, renormalised, only the smallest set of most probable ones whose
        probabilities add up to at least this (top-p, Holtzman et al. 2020); in (0, 1].

    Returns:
      int32 [rows].
    """
    vocab = logits.shape[-1]
    ids = None
    if keep is not None and keep < vocab:
        logits, ids = top_k.top_k(logits, keep)
    elif nucleus < 1.0:
        logits, ids = tf.math.top_k(logits, vocab)
    probs = tf.nn.softmax(logits / temperature)
    if nucleus < 1.0:
        before = tf.cumsum(probs, axis=-1, exclusive=True)
        probs = tf.where(before < nucleus, probs, 0.0)
    cumulative = tf.cumsum(probs, axis=-1)
    # Strictly above the draw, so a token of probability 0 is never the first.
    passed = cumulative <= draws[:, tf.newaxis] * cumulative[:, -1:]
    chosen = tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)
    return chosen if ids is None else tf.gather(ids, chosen, batch_dims=1)


def uniform_draws(
    seed: int, example_ids: tf.Tensor, num_hyps: int, num_steps: tf.Tensor
) -> tf.Tensor:
    """float32 [batch, num_hyps, at least num_steps], uniform in [0, 1).

    Each stretch of 64 steps has its own seed, made of (seed, example id, hypothesis, stretch), so
    that no value depends on how many hypotheses, steps or other examples there are.
    """
    stretches = -(-num_steps // _DRAWS_A_SEED)
    grid = tf.meshgrid(
        tf.cast(example_ids, tf.int64),
        tf.range(num_hyps, dtype=tf.int64),
        tf.range(tf.cast(stretches, tf.int64)),
        indexing='ij',
    )
    # 3 x [batch, hyps, stretches] -> [batch * hyps * stretches, 3]
    keys = tf.reshape(tf.stack(grid, axis=-1), [-1, 3])

    def Draw(key: tf.Tensor) -> tf.Tensor:
        folded = tf.constant([seed, 0], tf.int64)
        for part in tf.unstack(key, num=3):
            folded = tf.random.experimental.stateless_fold_in(folded, part)
        return tf.random.stateless_uniform([_DRAWS_A_SEED], folded)

    draws = tf.map_fn(Draw, keys, fn_output_signature=tf.float32)
    return tf.reshape(draws, [tf.size(example_ids), num_hyps, stretches * _DRAWS_A_SEED])


def _follow(
    scorer: scorers.Scorer,
    max_lengths: tf.Tensor,
    num_hyps: int,
    choose: Callable[[tf.Tensor, tf.Tensor, NestedMap], tuple[tf.Tensor, tf.Tensor]],
    alpha: float,
    extra: NestedMap,
) -> NestedMap:
    """Hypotheses that each get one token a step.

    Args:
      scorer: the model.
      max_lengths: int [batch].
      num_hyps: hypotheses a sentence, which do not know of each other.
      choose: (logits [rows, vocab], position, live) -> next tokens [rows], log z [rows].
      alpha: of the length penalty.
      extra: NestedMap of tensors [batch, ...] that `choose` finds in `live`.

    Returns:
      NestedMap as `search.Search.Decode` describes it.
    """
    live = live_batch.start(scorer, max_lengths, num_hyps, num_hyps)
    live.update(extra)
    live.closed = tf.tile(live.done[:, tf.newaxis], [1, num_hyps])
    # A sum of log-probabilities while a hypothesis is open; fill rows keep NO_SCORE.
    live.results.scores = tf.where(live.closed, live.results.scores, 0.0)

    def Extend(
        live: NestedMap, position: tf.Tensor, logits: tf.Tensor, attention: Optional[tf.Tensor]
    ) -> tuple[NestedMap, None]:
        tokens, log_z = choose(logits, position, live)
        # [sentences * hyps] -> [sentences, hyps]
        tokens = tf.reshape(tokens, [-1, num_hyps])
        last = (position + 1 >= live.limits)[:, tf.newaxis]
        tokens = tf.where(last, scorer.eos_id, tokens)
        chosen = tf.gather(logits, tf.reshape(tokens, [-1]), batch_dims=1)
        if scorer.normalized:
            chosen = tf.minimum(chosen - log_z, 0.0)
        log_probs = tf.reshape(chosen, [-1, num_hyps])
        results = live.results
        scores = results.scores + tf.where(live.closed, 0.0, log_probs)
        closes = tf.equal(tokens, scorer.eos_id) & tf.logical_not(live.closed)
        final = scores / penalties.length_penalty(position + 1, alpha)
        results.scores = tf.where(closes, final, scores)
        results.lengths = tf.where(closes, position, results.lengths)
        results.ids = tf.concat([results.ids, tokens[:, :, tf.newaxis]], axis=2)
        if attention is not None:
            results.attention = tf.concat([results.attention, attention], axis=2)
        live.tokens = tokens
        live.closed |= closes
        live.done = tf.reduce_all(live.closed, axis=1)
        return live, None

    return live_batch.run(scorer, live, Extend)
