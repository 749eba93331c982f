"""Beam search with an exact stop."""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from lingvo_lite.decoding import live_batch, penalties, scorers, top_k
from lingvo_lite.decoding.live_batch import NO_SCORE
from lingvo_lite.nested_map import NestedMap


def beam_search(
    scorer: scorers.Scorer,
    max_lengths: tf.Tensor,
    beam_size: int,
    num_hyps: int = 1,
    length_normalization: float = 0.0,
    coverage_penalty: float = 0.0,
) -> NestedMap:
    """The best hypotheses that a beam of `beam_size` open ones finds.

    At each step the candidates of a sentence are all its open hypotheses extended by all tokens.
    Those that end in </s> and are among the `beam_size` most probable are finished; the `beam_size`
    most probable others stay open. A hypothesis that is still open when one token is left before
    its limit can only be extended by </s>, and pays for it: everything returned is complete.
    Open hypotheses, all of one length, are compared by log-probability, finished ones by score
    (see `penalties`). Equal ones: the earlier finished first, then the lower beam, then the lower
    token id.

    A sentence is finished when `num_hyps` hypotheses are, and no open one could get a better score
    even if all its tokens up to the limit were certain and its coverage perfect; so stopping
    changes no result. It then leaves the batch.

    Args:
      scorer: the model.
      max_lengths: int [batch], limit of tokens in a hypothesis, </s> included; 0 on fill rows,
        which get no hypothesis.
      beam_size: open hypotheses a sentence.
      num_hyps: hypotheses returned a sentence, at most beam_size.
      length_normalization: alpha of `penalties.length_penalty`.
      coverage_penalty: beta of `penalties.coverage_penalty`; takes a scorer with attention.

    Returns:
      NestedMap as `search.Search.Decode` describes it.

    Raises:
      ValueError: if coverage_penalty is asked of a scorer that gives no attention.
    """
    if coverage_penalty and scorer.source_paddings is None:
        raise ValueError(
            f'coverage_penalty={coverage_penalty:g} needs attention, which '
            f'{type(scorer).__name__} does not give. Set coverage_penalty=0.0.'
        )
    live = live_batch.start(scorer, max_lengths, beam_size, num_hyps)
    # Of the equal empty hypotheses only the first is alive.
    batch = tf.size(live.index)
    live.scores = tf.tile([[0.0] + [NO_SCORE] * (beam_size - 1)], [batch, 1])
    live.ids = tf.zeros([batch, beam_size, 0], tf.int32)
    if scorer.source_paddings is not None:
        live.attention = live_batch.no_attention(scorer, beam_size)
        live.paddings = tf.cast(scorer.source_paddings, tf.float32)

    def Extend(
        live: NestedMap, position: tf.Tensor, logits: tf.Tensor, attention: Optional[tf.Tensor]
    ) -> tuple[NestedMap, tf.Tensor]:
        candidates = _candidates(live, logits, scorer)
        if attention is not None:
            live.attention = tf.concat([live.attention, attention], axis=2)
        live.results = _finish(live, position, candidates, length_normalization, coverage_penalty)
        live, parents = _stay_open(live, candidates)
        hope = _hope(live, position, scorer.largest_gain, length_normalization)
        live.done |= (position + 1 >= live.limits) | (hope <= live.results.scores[:, -1])
        return live, parents

    return live_batch.run(scorer, live, Extend)


# In the shapes below: a sentences in the batch, k beams, n results, m tokens of a beam that can
# matter (k + 1: if </s> is among them, k others are left), c = k * m candidates, t steps so far.


def _candidates(live: NestedMap, logits: tf.Tensor, scorer: scorers.Scorer) -> NestedMap:
    """What the hypotheses of each sentence can become.

    Returns:
      NestedMap(
        scores: float32 [a, c], log-probability with the token; -inf for what cannot be.
        tokens: int32 [a, c].
        beams: int32 [c], the hypothesis that each extends.
        ends: bool [a, c], whether the token is </s>.
        closed: float32 [a, k], log-probability of each hypothesis with </s>).
    """
    k = live.tokens.shape[1]
    m = min(k + 1, logits.shape[-1])
    values, tokens = top_k.top_k(logits, m)
    eos = logits[:, scorer.eos_id : scorer.eos_id + 1]
    if scorer.normalized:
        log_z = top_k.log_normalizer(logits, values, tokens)
        values, eos = tf.minimum(values - log_z, 0.0), tf.minimum(eos - log_z, 0.0)
    # [a * k, m] -> [a, k, m]
    log_probs = tf.reshape(values, [-1, k, m])
    log_probs = tf.where(log_probs < scorers.IMPOSSIBLE_BELOW, NO_SCORE, log_probs)
    # [a * k, 1] -> [a, k]
    eos = tf.reshape(eos, [-1, k])
    # [a * k, m] -> [a, c]
    tokens = tf.reshape(tokens, [-1, k * m])
    return NestedMap(
        scores=tf.reshape(live.scores[:, :, tf.newaxis] + log_probs, [-1, k * m]),
        tokens=tokens,
        beams=tf.range(k * m) // m,
        ends=tf.equal(tokens, scorer.eos_id),
        closed=live.scores + eos,
    )


def _finish(
    live: NestedMap, position: tf.Tensor, candidates: NestedMap, alpha: float, beta: float
) -> NestedMap:
    """The n best of the results so far and the hypotheses that end at this step.

    Args:
      live: its attention includes this step's.
      position: scalar, the number of tokens in front of </s>.
      candidates: see `_candidates`.
      alpha: of the length penalty.
      beta: of the coverage penalty.

    Returns:
      live.results, their time no longer than what has ended.
    """
    k = live.tokens.shape[1]
    scores, best = tf.math.top_k(candidates.scores, k)
    scores = tf.where(tf.gather(candidates.ends, best, batch_dims=1), scores, NO_SCORE)
    last = (position + 1 >= live.limits)[:, tf.newaxis]
    # [a, k]: what ends, and which hypothesis that was.
    scores = tf.where(last, candidates.closed, scores)
    beams = tf.where(last, tf.range(k), tf.gather(candidates.beams, best))

    scores /= penalties.length_penalty(position + 1, alpha)
    if beta:
        coverage = penalties.coverage_penalty(live.attention, live.paddings, beta)
        scores += tf.gather(coverage, beams, batch_dims=1)
    scores = tf.where(live.done[:, tf.newaxis], NO_SCORE, scores)
    results = live.results

    def Merge() -> NestedMap:
        best, choice = tf.math.top_k(
            tf.concat([results.scores, scores], axis=1), results.scores.shape[1]
        )

        def Choose(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
            # [a, n, ...] and [a, k, ...] -> [a, n, ...]
            new = tf.gather(new, beams, batch_dims=1)
            if new.shape.rank > 2:  # the results are as long as when one last ended
                missing = tf.shape(new)[2] - tf.shape(old)[2]
                old = tf.pad(old, [[0, 0], [0, 0], [0, missing]] + [[0, 0]] * (old.shape.rank - 3))
            return tf.gather(tf.concat([old, new], axis=1), choice, batch_dims=1)

        chosen = NestedMap(
            ids=Choose(results.ids, live.ids),
            lengths=Choose(results.lengths, tf.fill(tf.shape(beams), position)),
            scores=best,
        )
        if 'attention' in results:
            chosen.attention = Choose(results.attention, live.attention)
        return chosen

    # In most steps nothing ends.
    return tf.cond(tf.reduce_any(scores > NO_SCORE), Merge, lambda: results)


def _hope(live: NestedMap, position: tf.Tensor, gain: float, alpha: float) -> tf.Tensor:
    """The most that an open hypothesis of each sentence can still reach, float32 [a].

    Log-probabilities only fall, and the length penalty only grows. A token adds at most `gain`.
    """
    best, longest = live.scores[:, 0], penalties.length_penalty(live.limits, alpha)
    if not gain:
        return best / longest
    best += gain * tf.cast(live.limits - position - 1, tf.float32)
    # A negative score is the better the longer the hypothesis is, a positive one the shorter.
    shortest = penalties.length_penalty(position + 2, alpha)
    return tf.where(best < 0, best / longest, best / shortest)


def _stay_open(live: NestedMap, candidates: NestedMap) -> tuple[NestedMap, tf.Tensor]:
    """`live` with the k best hypotheses that do not end, and the beams they extend, [a, k]."""
    k = live.tokens.shape[1]
    live.scores, best = tf.math.top_k(tf.where(candidates.ends, NO_SCORE, candidates.scores), k)
    live.tokens = tf.gather(candidates.tokens, best, batch_dims=1)
    parents = tf.gather(candidates.beams, best)
    live.ids = tf.gather(live.ids, parents, batch_dims=1)
    live.ids = tf.concat([live.ids, live.tokens[:, :, tf.newaxis]], axis=2)
    if 'attention' in live:
        live.attention = tf.gather(live.attention, parents, batch_dims=1)
    return live, parents
