"""What a model offers to a search, and several models as one."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.nested_map import NestedMap

# The score of a token that does not exist is at most the first; sums with it are below the second.
IMPOSSIBLE = -1e9
IMPOSSIBLE_BELOW = -1e8


class Scorer(abc.ABC):
    """The next-token distribution of a model, one step at a time.

    A search keeps `rows` hypotheses, the same number for each sentence and those of a sentence
    side by side: row = sentence * beams + beam. It hands the state back as it got it, except that
      - leaves of `state.cache`, [rows, ...], are gathered by row: they follow their hypothesis;
      - leaves of `state.source`, [sentences, ...], lose the sentences that are finished.
    A cache leaf may grow along an axis that is empty, or of unknown size, in `Init`. All other
    axes keep their size.

    Attributes:
      bos_id: the token that stands in front of every hypothesis.
      eos_id: the token that ends one.
      source_paddings: [batch, source_time], 1.0 where there is no data: the paddings of what the
        attention returned by `Step` looks at. None for a scorer that returns no attention.
      normalized: whether the score of a token is the log-softmax of what `Step` returns. If not,
        what it returns is added up as it is (see `fusion`).
      largest_gain: the most that one token can add to a score; 0 for log-probabilities.
    """

    bos_id: int
    eos_id: int
    source_paddings: Optional[tf.Tensor] = None
    normalized: bool = True
    largest_gain: float = 0.0

    @abc.abstractmethod
    def Init(self) -> NestedMap:
        """NestedMap(cache=..., source=...) before the first step, with one row a sentence."""

    @abc.abstractmethod
    def Step(
        self, ids: tf.Tensor, position: tf.Tensor, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap, Optional[tf.Tensor]]:
        """One token further.

        Args:
          ids: int32 [rows], the last token of each hypothesis.
          position: int32 scalar, the number of tokens in front of `ids` (0 for bos_id).
          state: what `Init` or the step before returned, gathered by the search.

        Returns:
          - float32 [rows, vocab], logits or log-probabilities of the next token; at most -1e9
            where there is no such token. A vocabulary that is a multiple of 8 is fastest.
          - the next state.
          - float32 [rows, source_time], attention that sums to 1 in each row, or None.
        """


class DecoderScorer(Scorer):
    """What the scorers of encoder-decoder tasks begin with."""

    def __init__(self, p: hyperparams.Params, source_paddings: tf.Tensor):
        """Args:
        p: Params of the task: bos_id, eos_id and search.
        source_paddings: [batch, source_time], of what the decoder attends to.
        """
        self.bos_id = p.bos_id
        self.eos_id = p.eos_id
        # The search carries attention along, so it gets it only if it asks for it.
        if p.search.coverage_penalty:
            self.source_paddings = source_paddings


class Ensemble(Scorer):
    """The mean of the probabilities of several scorers: log(mean_i p_i(y | y_<t, x)).

    All must share the vocabulary and see the same sentences in the same order. Attention is the
    mean where each scorer gives it, which takes sources of equal size.
    """

    def __init__(self, scorers: Sequence[Scorer]):
        """Takes at least one scorer.

        Raises:
          ValueError: if there is none, they do not agree about bos_id or eos_id, or one of them
            gives no probabilities.
        """
        self._scorers = list(scorers)
        if not self._scorers:
            raise ValueError('An ensemble needs at least one scorer, got none.')
        ends = [(scorer.bos_id, scorer.eos_id) for scorer in self._scorers]
        if len(set(ends)) > 1:
            raise ValueError(
                f'The scorers of an ensemble must share one vocabulary, got (bos_id, eos_id) of '
                f'{", ".join(map(str, ends))}.'
            )
        if not all(scorer.normalized for scorer in self._scorers):
            raise ValueError(
                'The scorers of an ensemble must give probabilities. Put a language model around '
                'the ensemble, not around its parts: fusion.Fusion(Ensemble(scorers), lm).'
            )
        self.bos_id, self.eos_id = ends[0]
        paddings = [scorer.source_paddings for scorer in self._scorers]
        if all(p is not None for p in paddings):
            self.source_paddings = paddings[0]

    def Init(self) -> NestedMap:
        states = [scorer.Init() for scorer in self._scorers]
        return self._Joined(states)

    def Step(
        self, ids: tf.Tensor, position: tf.Tensor, state: NestedMap
    ) -> tuple[tf.Tensor, NestedMap, Optional[tf.Tensor]]:
        log_probs, states, attentions = [], [], []
        for i, scorer in enumerate(self._scorers):
            own = NestedMap(cache=state.cache[f'scorer_{i}'], source=state.source[f'scorer_{i}'])
            logits, own, attention = scorer.Step(ids, position, own)
            log_probs.append(tf.nn.log_softmax(logits))
            states.append(own)
            attentions.append(attention)
        sizes = [x.shape[-1] for x in log_probs]
        if len(set(sizes)) > 1:
            raise ValueError(
                'The scorers of an ensemble must share one vocabulary, got vocabularies of '
                f'{", ".join(map(str, sizes))} tokens.'
            )
        # [scorers, rows, vocab] -> [rows, vocab]
        mean = tf.reduce_logsumexp(tf.stack(log_probs), axis=0) - math.log(len(log_probs))
        attention = None
        if self.source_paddings is not None:
            attention = tf.add_n(attentions) / len(attentions)
        return mean, self._Joined(states), attention

    @staticmethod
    def _Joined(states: list[NestedMap]) -> NestedMap:
        return NestedMap(
            cache=NestedMap({f'scorer_{i}': state.cache for i, state in enumerate(states)}),
            source=NestedMap({f'scorer_{i}': state.source for i, state in enumerate(states)}),
        )
