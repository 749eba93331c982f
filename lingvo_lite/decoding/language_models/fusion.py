"""Shallow fusion: a search that also listens to a language model.

    score(Y | X) = log P(Y | X) + w_1 g_1(Y) + w_2 g_2(Y) + ...

Each g is a `LanguageModel`: a sum over the tokens of Y, </s> included. `Weighted` adds them up,
and is taken by `Fusion` (for an attention decoder) and by `ctc.prefix_beam_search`.

Gülçehre et al. 2015, https://arxiv.org/abs/1503.03535; with a word bonus Hannun et al. 2014,
https://arxiv.org/abs/1408.2873.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from lingvo_lite.decoding import scorers
from lingvo_lite.nested_map import NestedMap

WORD_STARTS = (' ', '\u2581')  # a space, and what SentencePiece writes for one


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The ids that a search deals with.

    Attributes:
      tokens: the text of each id, '' for those that are no text. Between words stands a token ' ',
        or the piece that begins a word has a space or a '\u2581' in front.
      bos_id: of <s>.
      eos_id: of </s>.
      fingerprint: of the tokenizer; '' if it is not known.
    """

    tokens: Sequence[str]
    bos_id: int
    eos_id: int
    fingerprint: str = ''


class LanguageModel(abc.ABC):
    """What the tokens of a text add to its score, one token at a time.

    Unlike `scorers.Scorer` it sees no source, its state has a fixed size, and it does not look at
    positions: rows may hold texts of different lengths.

    Attributes:
      bos_id: the token in front of every text.
      eos_id: the token behind it.
      largest_gain: the most that one token can add to the score; 0 for log-probabilities.
    """

    bos_id: int
    eos_id: int
    largest_gain: float = 0.0

    @abc.abstractmethod
    def InitStates(self, rows: tf.Tensor) -> NestedMap:
        """The state of `rows` empty texts, in front of <s>: tensors [rows, ...]."""

    @abc.abstractmethod
    def ExtendStep(self, ids: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        """One token further.

        Args:
          ids: int32 [rows], the last token of each text; bos_id at first.
          state: from `InitStates` or the step before.

        Returns:
          - float32 [rows, vocab]: what each token would add; at most -1e9 where there is no such
            token. For eos_id, what the end of the text adds.
          - the state behind `ids`.
        """


class Weighted(LanguageModel):
    """sum_i w_i g_i."""

    def __init__(self, terms: Sequence[tuple[LanguageModel, float]]):
        """Takes (g_i, w_i); terms of weight 0 are left out.

        Raises:
          ValueError: if there is none, a weight is negative (then no beam search could tell when
            to stop), or the terms do not share bos_id and eos_id.
        """
        if not terms:
            raise ValueError('Weighted needs at least one language model, got none.')
        for model, weight in terms:
            if weight < 0:
                raise ValueError(
                    f'The weight of {type(model).__name__} must be at least 0, got {weight:g}.'
                )
        ends = [(model.bos_id, model.eos_id) for model, _ in terms]
        if len(set(ends)) > 1:
            raise ValueError(
                'Language models that are added up must share one vocabulary, got (bos_id, '
                f'eos_id) of {", ".join(map(str, ends))}.'
            )
        self.bos_id, self.eos_id = ends[0]
        self._terms = [(model, weight) for model, weight in terms if weight] or [terms[0]]
        self.largest_gain = sum(weight * model.largest_gain for model, weight in self._terms)

    def InitStates(self, rows: tf.Tensor) -> NestedMap:
        return NestedMap(
            {f'term_{i}': model.InitStates(rows) for i, (model, _) in enumerate(self._terms)}
        )

    def ExtendStep(self, ids: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        total: Optional[tf.Tensor] = None
        following = NestedMap()
        for i, (model, weight) in enumerate(self._terms):
            scores, following[f'term_{i}'] = model.ExtendStep(ids, state[f'term_{i}'])
            # What is impossible stays so however small the weight is.
            scores = tf.where(
                scores < scorers.IMPOSSIBLE_BELOW, scorers.IMPOSSIBLE, weight * scores
            )
            total = scores if total is None else total + fit(scores, total.shape[-1])
        return total, following


class WordCount(LanguageModel):
    """The number of words: with a weight, the word insertion bonus.

    A word is counted where it ends: at a token that begins with a space (a space itself, or a
    piece that begins a word), and at </s>.
    """

    largest_gain = 1.0

    def __init__(self, vocabulary: Vocabulary):
        tokens = vocabulary.tokens
        self.bos_id, self.eos_id = vocabulary.bos_id, vocabulary.eos_id
        ends = [token.startswith(WORD_STARTS) for token in tokens]
        ends[self.eos_id] = True
        inside = [bool(token.strip(''.join(WORD_STARTS))) for token in tokens]
        with tf.init_scope():
            self._ends = tf.constant(np.array(ends, np.float32))
            self._inside = tf.constant(inside)
            self._special = tf.constant([not token for token in tokens])

    def InitStates(self, rows: tf.Tensor) -> NestedMap:
        return NestedMap(inside=tf.zeros([rows], tf.bool))

    def ExtendStep(self, ids: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        inside = tf.where(tf.gather(self._special, ids), state.inside, tf.gather(self._inside, ids))
        scores = tf.where(inside[:, tf.newaxis], self._ends, 0.0)
        return scores, NestedMap(inside=inside)


class Fusion(scorers.Scorer):
    """A scorer and a language model, added up: log P(y_t | y_<t, X) + g(y_t | y_<t)."""

    normalized = False

    def __init__(self, scorer: scorers.Scorer, lm: LanguageModel):
        """Takes both; they share the vocabulary.

        Raises:
          ValueError: if they do not agree about bos_id or eos_id.
        """
        ends = (scorer.bos_id, scorer.eos_id), (lm.bos_id, lm.eos_id)
        if ends[0] != ends[1]:
            raise ValueError(
                'A scorer and its language model must share one vocabulary, got (bos_id, eos_id) '
                f'of {ends[0]} and {ends[1]}.'
            )
        self._scorer, self._lm = scorer, lm
        self.bos_id, self.eos_id = ends[0]
        self.source_paddings = scorer.source_paddings
        self.largest_gain = scorer.largest_gain + lm.largest_gain

    def Init(self) -> NestedMap:
        state = self._scorer.Init()
        sentences = tf.shape(tf.nest.flatten([state.cache, state.source])[0])[0]
        cache = NestedMap(scorer=state.cache, lm=self._lm.InitStates(sentences))
        return NestedMap(cache=cache, source=state.source)

    def Step(
        self, ids: tf.Tensor, position: tf.Tensor, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap, Optional[tf.Tensor]]:
        own = NestedMap(cache=state.cache.scorer, source=state.source)
        logits, own, attention = self._scorer.Step(ids, position, own)
        log_probs = tf.nn.log_softmax(logits) if self._scorer.normalized else logits
        scores, lm = self._lm.ExtendStep(ids, state.cache.lm)
        cache = NestedMap(scorer=own.cache, lm=lm)
        total = log_probs + fit(scores, logits.shape[-1])
        return total, NestedMap(cache=cache, source=own.source), attention


def fit(scores: tf.Tensor, vocab: int) -> tf.Tensor:
    """[rows, any] -> [rows, vocab]: ids that are missing are impossible, those behind are cut off.

    Vocabularies are padded to multiples of 8 in some places and not in others.
    """
    missing = vocab - scores.shape[-1]
    if missing > 0:
        return tf.pad(scores, [[0, 0], [0, missing]], constant_values=scorers.IMPOSSIBLE)
    return scores[:, :vocab]
