"""From the frame by frame output of a CTC model to text (Graves et al. 2006).

An alignment has one symbol a frame, a token or the blank. It stands for the tokens that are left
when runs of one symbol are made one and blanks are dropped:  _ a a _ a b b  ->  a a b.

All of it is in the graph, so that a language model runs where the acoustic model does. That costs
nothing: measured on two busy cores, 32 utterances of 200 frames, 32 tokens, 16 prefixes take 67 ms,
the same operations in NumPy on the host 64 ms, with equal scores.

Hypotheses do not depend on the other utterances of the batch, their number or the padding.
"""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.decoding import top_k
from lingvo_lite.decoding.language_models import fusion
from lingvo_lite.nested_map import NestedMap

# The log-probability of what cannot be. Finite, so that no difference of two is undefined, and so
# large that adding it up over all frames stays finite too.
_NONE = -1e30
_IMPOSSIBLE_BELOW = -1e8  # As in a language model: what scores less than this is no hypothesis.
_NO_TOKEN = -1


class CtcSearch:
    """Greedy or prefix beam search over a CTC model's output.

    search = CtcSearch.Params().Set(method='beam', beam_size=16).Instantiate()
    hyps = search.Decode(logits, paddings)
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams:
        p = hyperparams.InstantiableParams(cls)

        def Define(name, default, description, **kwargs):
            p.Define(name, default, description, resume='free', **kwargs)

        Define(
            'method',
            'greedy',
            'greedy: the tokens of the most probable alignment. beam: the most probable text.',
            choices=('greedy', 'beam'),
        )
        Define('beam_size', 16, 'Prefixes that are followed for each utterance (beam).')
        Define('num_hyps', 1, 'Hypotheses returned an utterance, at most beam_size (beam).')
        Define(
            'tokens_per_frame',
            0,
            'Only this many most probable tokens of a frame make new prefixes (beam). 0: all that '
            'matter. Fewer make a language model cheaper, and may cost the best hypothesis.',
        )
        Define('blank_id', 0, 'Id of the blank.')
        return p

    @classmethod
    def Check(cls, params: hyperparams.InstantiableParams) -> None:
        """Raises ConfigError where a value is out of its range or values do not fit together."""
        p = params
        hyperparams.RequireRange(p, 'beam_size', 'num_hyps', at_least=1)
        hyperparams.RequireRange(p, 'tokens_per_frame', at_least=0, note='0 for all')
        hyperparams.RequireRange(p, 'blank_id', at_least=0)
        if p.method == 'greedy':
            hyperparams.Require(
                p, p.num_hyps == 1, 'num_hyps', '1 with method=greedy, which finds one hypothesis'
            )
        hyperparams.Require(
            p,
            p.method == 'greedy' or p.num_hyps <= p.beam_size,
            'num_hyps',
            f'at most beam_size={p.beam_size}',
        )

    def __init__(self, params: hyperparams.InstantiableParams):
        self.params = params

    def Decode(
        self,
        logits: tf.Tensor,
        paddings: tf.Tensor,
        lm: Optional[fusion.LanguageModel] = None,
    ) -> NestedMap:
        """Hypotheses for each utterance.

        Args:
          logits: float [batch, time, vocab], logits or log-probabilities.
          paddings: [batch, time], 1.0 behind the last frame of an utterance.
          lm: what is added to the score of a text (method=beam).

        Returns:
          NestedMap, best hypothesis first:
            ids: int32 [batch, num_hyps, tokens]; blank_id behind the end.
            lengths: int32 [batch, num_hyps].
            scores: float32 [batch, num_hyps]. Greedy: log-probability of the alignment. Beam:
              log P(text | audio), over the alignments that the beam has seen, plus what the
              language model adds. -inf where there is no hypothesis.

        Raises:
          ValueError: if a language model is given to a greedy search.
        """
        p = self.params
        log_probs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        if p.method == 'greedy':
            if lm is not None:
                raise ValueError("A language model needs method='beam'; greedy search asks none.")
            return greedy(log_probs, paddings, p.blank_id)
        return prefix_beam_search(
            log_probs, paddings, p.beam_size, p.num_hyps, lm, p.tokens_per_frame, p.blank_id
        )


def greedy(log_probs: tf.Tensor, paddings: tf.Tensor, blank_id: int = 0) -> NestedMap:
    """The text of the most probable alignment; of equal tokens the lowest id.

    Args:
      log_probs: float32 [batch, time, vocab].
      paddings: [batch, time].
      blank_id: of the blank.

    Returns:
      NestedMap as `CtcSearch.Decode` describes it, with one hypothesis.
    """
    real = paddings < 0.5
    best = tf.argmax(log_probs, axis=-1, output_type=tf.int32)
    before = tf.pad(best[:, :-1], [[0, 0], [1, 0]], constant_values=_NO_TOKEN)
    emits = real & (best != blank_id) & (best != before)
    scores = tf.reduce_sum(tf.where(real, tf.reduce_max(log_probs, axis=-1), 0.0), axis=1)
    ids, lengths = _compact(tf.where(emits, best, _NO_TOKEN)[:, tf.newaxis], blank_id)
    return NestedMap(ids=ids, lengths=lengths, scores=scores[:, tf.newaxis])


def prefix_beam_search(
    log_probs: tf.Tensor,
    paddings: tf.Tensor,
    beam_size: int,
    num_hyps: int = 1,
    lm: Optional[fusion.LanguageModel] = None,
    tokens_per_frame: int = 0,
    blank_id: int = 0,
) -> NestedMap:
    """The texts with the best score among those that a beam finds (Hannun et al. 2014).

    The beam holds prefixes of texts, each with the probability of all alignments of the frames so
    far that stand for it, those that end in the blank apart from those that end in its last token.
    At each frame a prefix stays, or is extended by a token; what becomes equal is added up; the
    `beam_size` best go on. With a beam that holds every prefix the result is exact.

    A prefix is known by a hash of 64 bits.

    Args:
      log_probs: float32 [batch, time, vocab].
      paddings: [batch, time], 1.0 behind the last frame.
      beam_size: prefixes that are followed.
      num_hyps: hypotheses returned, at most beam_size.
      lm: what is added to the score of a text, while it grows, and for its end.
      tokens_per_frame: only so many most probable tokens of each frame make new prefixes; 0: all,
        but without `lm` those are left out that cannot change the result.
      blank_id: of the blank.

    Returns:
      NestedMap as `CtcSearch.Decode` describes it.
    """
    vocab = log_probs.shape[-1]
    if tokens_per_frame:
        kept = min(tokens_per_frame, vocab)
    else:
        # Of the tokens of one frame at most beam_size can win, and as many lead to a prefix that
        # is there already. One more may rank behind because it repeats the last one.
        kept = vocab if lm is not None else min(2 * beam_size + 1, vocab)
    batch, time = tf.unstack(tf.shape(paddings), num=2)
    lengths = tf.reduce_sum(tf.cast(paddings < 0.5, tf.int32), axis=1)
    beam = _start(batch, beam_size, lm, vocab)
    parents = tf.TensorArray(tf.int32, time, element_shape=[None, beam_size])
    tokens = tf.TensorArray(tf.int32, time, element_shape=[None, beam_size])
    if lm is not None:
        # No frame says </s>; the language model speaks about it when all frames are heard.
        log_probs += tf.one_hot(lm.eos_id, vocab, on_value=_NONE, off_value=0.0)
    # Behind its end an utterance has blanks for certain, which change nothing.
    blank = tf.one_hot(blank_id, vocab, on_value=0.0, off_value=_NONE)
    # What cannot be is as improbable as what is not there: sums of both stay finite.
    log_probs = tf.where(paddings[:, :, tf.newaxis] < 0.5, tf.maximum(log_probs, _NONE), blank)
    # [batch, time, vocab] -> [time, batch, vocab]: a frame is read at once.
    frames = tf.transpose(log_probs, [1, 0, 2])
    shapes = tf.nest.map_structure(lambda x: tf.TensorShape([None, *x.shape[1:].as_list()]), beam)

    def Body(frame, beam, parents, tokens):
        following, parent, token = _advance(beam, frames[frame], kept, blank_id)
        if lm is not None:
            following.lm = _listen(lm, beam.lm, parent, token, vocab)
        return frame + 1, following, parents.write(frame, parent), tokens.write(frame, token)

    num_frames = tf.reduce_max(tf.concat([[0], lengths], axis=0))
    _, beam, parents, tokens = tf.while_loop(
        lambda frame, *_: frame < num_frames,
        Body,
        (tf.constant(0), beam, parents, tokens),
        shape_invariants=(tf.TensorShape([]), shapes, tf.TensorShape(None), tf.TensorShape(None)),
    )
    scores = _score(beam)
    if lm is not None:
        # [batch * beam, vocab] -> [batch, beam]
        scores += tf.reshape(beam.lm.following[:, lm.eos_id], [-1, beam_size])
    scores = tf.where((lengths > 0)[:, tf.newaxis], scores, _NONE)
    scores, best = tf.math.top_k(scores, num_hyps)
    ids, lengths = _compact(_trace_back(parents, tokens, num_frames, best), blank_id)
    exists = scores > _IMPOSSIBLE_BELOW
    ids = tf.where(exists[:, :, tf.newaxis], ids, blank_id)
    return NestedMap(
        ids=ids,
        lengths=tf.where(exists, lengths, 0),
        scores=tf.where(exists, scores, -float('inf')),
    )


# In the shapes below: a utterances, k prefixes, m tokens that may extend them.


def _start(batch, k, lm, vocab):
    """The beam in front of the first frame: the empty prefix, and k - 1 that do not exist.

    NestedMap(
      blank, token: float32 [a, k], log-probability of the alignments that end in a blank, or in
        the last token of the prefix.
      last: int32 [a, k], the last token.
      key, parent_key: int64 [a, k], the hash of the prefix and of the prefix without its last
        token.
      lm: with a language model, NestedMap(
        score: float32 [a, k], what it has added so far.
        following: float32 [a * k, vocab], what it would add for the next token.
        state: its state, tensors [a * k, ...])).
    """
    first = tf.tile([[0.0] + [_NONE] * (k - 1)], [batch, 1])
    keys = tf.tile(_keys_of_none(k), [batch, 1])
    beam = NestedMap(
        blank=first,
        token=tf.fill(tf.shape(first), _NONE),
        last=tf.fill(tf.shape(first), _NO_TOKEN),
        key=keys,
        parent_key=keys - 1,
    )
    if lm is not None:
        ids = tf.fill([batch * k], lm.bos_id)
        following, state = lm.ExtendStep(ids, lm.InitStates(batch * k))
        beam.lm = NestedMap(
            score=tf.zeros_like(first), following=fusion.fit(following, vocab), state=state
        )
    return beam


def _advance(beam, frame, m, blank_id):
    """One frame further.

    Args:
      beam: see `_start`.
      frame: float32 [a, vocab], log-probabilities.
      m: tokens that are looked at.
      blank_id: of the blank.

    Returns:
      - the beam without its `lm`, best prefix first.
      - int32 [a, k], the prefixes that the new ones come from.
      - int32 [a, k], the tokens that they are extended by; _NO_TOKEN for those that stay.
    """
    k = beam.last.shape[1]
    is_blank = tf.equal(tf.range(frame.shape[-1]), blank_id)
    values, tokens = top_k.top_k(tf.where(is_blank, _NONE, frame), m)
    total = _log_add(beam.blank, beam.token)

    # Prefix j is prefix i and one token: match[a, i, j]. There is at most one such i.
    match = tf.equal(beam.key[:, :, tf.newaxis], beam.parent_key[:, tf.newaxis, :])
    has_parent = tf.reduce_any(match, axis=1)
    parent = tf.argmax(tf.cast(match, tf.int32), axis=1, output_type=tf.int32)

    # What stays: by a blank, by its last token again, or by its parent, extended.
    last = tf.maximum(beam.last, 0)
    at_last = tf.where(beam.last >= 0, tf.gather(frame, last, batch_dims=1), _NONE)
    from_parent = at_last + _before(beam, total, parent, beam.last)
    stays = NestedMap(
        blank=total + frame[:, blank_id : blank_id + 1],
        token=_log_add(beam.token + at_last, tf.where(has_parent, from_parent, _NONE)),
    )

    # What is extended by a token, [a, k, m]; what is there already was added up above.
    repeats = tf.equal(tokens[:, tf.newaxis, :], beam.last[:, :, tf.newaxis])
    before = tf.where(repeats, beam.blank[:, :, tf.newaxis], total[:, :, tf.newaxis])
    extended = before + values[:, tf.newaxis, :]
    # [a, i, j] x [a, j, m]: whether i and token m are some prefix j.
    there = tf.matmul(tf.cast(match, tf.float32), tf.cast(repeats, tf.float32)) > 0.5
    extended = tf.where(there, _NONE, extended)

    ranks_stay, ranks_extended = _log_add(stays.blank, stays.token), extended
    if 'lm' in beam:
        added = tf.reshape(beam.lm.following, [-1, k, beam.lm.following.shape[-1]])
        index = tf.tile(tokens[:, tf.newaxis, :], [1, k, 1])
        added = tf.gather(added, index, batch_dims=2)
        ranks_stay += beam.lm.score
        ranks_extended += beam.lm.score[:, :, tf.newaxis] + added
    # [a, k + k * m]
    flat = [tf.shape(frame)[0], k * m]
    ranks = tf.concat([ranks_stay, tf.reshape(ranks_extended, flat)], axis=1)
    ranks, chosen = tf.math.top_k(ranks, k)
    stayed = chosen < k
    from_ = tf.where(stayed, chosen, (chosen - k) // m)
    token = tf.gather(tokens, tf.where(stayed, 0, (chosen - k) % m), batch_dims=1)

    def Gather(x):
        return tf.gather(x, from_, batch_dims=1)

    exists = ranks > _IMPOSSIBLE_BELOW
    own = tf.gather(
        tf.concat([stays.token, tf.reshape(extended, flat)], axis=1), chosen, batch_dims=1
    )
    key, none = Gather(beam.key), _keys_of_none(k)
    following = NestedMap(
        blank=tf.where(stayed & exists, Gather(stays.blank), _NONE),
        token=tf.where(exists, own, _NONE),
        last=tf.where(stayed, Gather(beam.last), token),
        key=tf.where(exists, tf.where(stayed, key, _hash(key, token)), none),
        parent_key=tf.where(exists, tf.where(stayed, Gather(beam.parent_key), key), none - 1),
    )
    return following, from_, tf.where(stayed, _NO_TOKEN, token)


def _before(beam, total, prefix, token):
    """Log-probability of the alignments of a prefix that a token can follow as a new one.

    A token that repeats the last one needs a blank in between.

    Args:
      beam: see `_start`.
      total: float32 [a, k], of all alignments of each prefix.
      prefix: int32 [a, k], which prefixes.
      token: int32 [a, k].

    Returns:
      float32 [a, k].
    """

    def Gather(x):
        return tf.gather(x, prefix, batch_dims=1)

    return tf.where(tf.equal(Gather(beam.last), token), Gather(beam.blank), Gather(total))


def _listen(lm, before, parent, token, vocab):
    """beam.lm after the prefixes have changed; see `_start` and `_advance`.

    The language model computes only for the prefixes that got a token.
    """
    k = parent.shape[1]
    # [a, k] -> [a * k]: rows of the tensors of the language model.
    rows = tf.reshape(parent + k * tf.range(tf.shape(parent)[0])[:, tf.newaxis], [-1])
    token = tf.reshape(token, [-1])
    score = tf.gather(tf.reshape(before.score, [-1]), rows)
    following = tf.gather(before.following, rows)
    state = tf.nest.map_structure(lambda x: tf.gather(x, rows), before.state)
    grown = tf.where(token != _NO_TOKEN)[:, 0]

    def Grow():
        ids = tf.gather(token, grown)
        some = tf.nest.map_structure(lambda x: tf.gather(x, grown), state)
        added, some = lm.ExtendStep(ids, some)
        index = grown[:, tf.newaxis]
        gains = tf.gather(tf.gather(following, grown), ids, batch_dims=1)

        def Update(old, new):
            return tf.tensor_scatter_nd_update(old, index, new)

        return (
            tf.tensor_scatter_nd_add(score, index, gains),
            Update(following, fusion.fit(added, vocab)),
            tf.nest.map_structure(Update, state, some),
        )

    score, following, state = tf.cond(tf.size(grown) > 0, Grow, lambda: (score, following, state))
    return NestedMap(score=tf.reshape(score, [-1, k]), following=following, state=state)


def _score(beam):
    """What prefixes are ranked by, float32 [a, k]."""
    scores = _log_add(beam.blank, beam.token)
    return scores + beam.lm.score if 'lm' in beam else scores


def _trace_back(parents, tokens, num_frames, best):
    """The tokens of some prefixes, frame by frame.

    Args:
      parents, tokens: TensorArrays of what `_advance` returned.
      num_frames: scalar.
      best: int32 [a, n], which of the last prefixes.

    Returns:
      int32 [a, n, num_frames + 1]; _NO_TOKEN where a frame adds none.
    """
    # One more, so that there is something to stack without any frame.
    found = tf.TensorArray(tf.int32, num_frames + 1, element_shape=[None, best.shape[1]])
    found = found.write(num_frames, tf.fill(tf.shape(best), _NO_TOKEN))

    def Body(frame, at, found):
        token = tf.gather(tokens.read(frame), at, batch_dims=1)
        at = tf.gather(parents.read(frame), at, batch_dims=1)
        return frame - 1, at, found.write(frame, token)

    _, _, found = tf.while_loop(lambda frame, *_: frame >= 0, Body, (num_frames - 1, best, found))
    # [time, a, n] -> [a, n, time]
    return tf.transpose(found.stack(), [1, 2, 0])


def _compact(tokens, fill):
    """int32 [a, n, time] without _NO_TOKEN: ids [a, n, longest] with `fill` behind, lengths."""
    there = tokens != _NO_TOKEN
    lengths = tf.reduce_sum(tf.cast(there, tf.int32), axis=-1)
    longest = tf.reduce_max(tf.concat([[0], tf.reshape(lengths, [-1])], axis=0))
    order = tf.argsort(tf.cast(~there, tf.int32), axis=-1, stable=True)[:, :, :longest]
    ids = tf.gather(tokens, order, batch_dims=2)
    return tf.where(tf.range(longest) < lengths[:, :, tf.newaxis], ids, fill), lengths


def _keys_of_none(k):
    """int64 [1, k]: hashes of prefixes that do not exist, and so are nobody's parents or children.

    The first is that of the empty prefix: where the best one does not exist, none does.
    """
    return (-1 - 2 * tf.range(k, dtype=tf.int64))[tf.newaxis, :]


def _log_add(x, y):
    """log(exp(x) + exp(y)); both are finite."""
    return tf.maximum(x, y) + tf.math.log1p(tf.exp(-tf.abs(x - y)))


def _hash(key, token):
    """The hash of a prefix and one more token: a round of splitmix64, which wraps around."""
    x = (key ^ (tf.cast(token, tf.int64) + 1)) * tf.constant(-0x61C8864680B583EB, tf.int64)
    x = (x ^ _shift(x, 30)) * tf.constant(-0x40A7B892E31B1A47, tf.int64)
    x = (x ^ _shift(x, 27)) * tf.constant(-0x6B2FB644ECCEEE15, tf.int64)
    return x ^ _shift(x, 31)


def _shift(x, bits):
    """Logical shift to the right of int64."""
    return tf.bitwise.right_shift(x, tf.cast(bits, tf.int64)) & ((1 << (64 - bits)) - 1)
