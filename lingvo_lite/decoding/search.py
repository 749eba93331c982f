"""One set of Params for every way to get hypotheses out of a scorer."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.decoding import beam_search, sampling, scorers
from lingvo_lite.hyperparams import Self
from lingvo_lite.nested_map import NestedMap


class Search:
    """Greedy search, beam search or sampling, over any `scorers.Scorer`.

        search = Search.Params().Set(method='beam', length_normalization=0.6).Instantiate()
        hyps = search.Decode(scorer, search.MaxLengths(source_lengths))

    Call it inside a `tf.function`; everything is in the graph. Hypotheses do not depend on the
    other sentences of the batch, their number, their order or the padding.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = hyperparams.InstantiableParams(cls)

        def Define(name: str, default: Any, description: str, **kwargs: Any) -> None:
            p.Define(name, default, description, resume='free', **kwargs)

        Define(
            'method',
            'greedy',
            'How the next tokens are chosen.',
            choices=('greedy', 'beam', 'sample'),
        )
        Define('beam_size', 4, 'Open hypotheses a sentence (beam).')
        Define('num_hyps', 1, 'Hypotheses returned a sentence (beam: the n best; sample).')
        Define(
            'length_normalization',
            0.0,
            'Scores are log-probabilities over ((5 + tokens) / 6) ** this (GNMT). At least 0.',
        )
        Define(
            'coverage_penalty',
            0.0,
            'Weight of the log of the attention that source positions got, at most 1 each (GNMT), '
            'in the score. At least 0; more needs a scorer with attention (beam).',
        )
        Define(
            'max_ratio',
            2.0,
            'A hypothesis has at most max_ratio * source length + max_steps tokens.',
        )
        Define('max_steps', 10, 'The constant of max_ratio, in tokens, </s> included.')
        Define('temperature', 1.0, 'Logits are divided by it (sample). Above 0.')
        Define(
            'top_k',
            None,
            'Only this many most probable tokens are drawn; None: all (sample).',
            type=int,
        )
        Define(
            'top_p',
            1.0,
            'Only the most probable tokens that make up this probability are drawn: nucleus '
            'sampling. In (0, 1] (sample).',
        )
        Define('seed', 1, 'Seed of what is drawn (sample).')
        return p

    @classmethod
    def Check(cls, params: hyperparams.Params) -> None:
        """Raises ConfigError where a value is out of its range or values do not fit together."""
        p = params
        hyperparams.RequireRange(p, 'beam_size', 'num_hyps', 'max_steps', at_least=1)
        hyperparams.RequireRange(
            p, 'length_normalization', 'coverage_penalty', 'max_ratio', at_least=0
        )
        hyperparams.RequireRange(
            p, 'temperature', above=0, note="for the limit 0 use method='greedy'"
        )
        hyperparams.RequireRange(p, 'top_k', at_least=1, note='None for all tokens')
        hyperparams.RequireRange(p, 'top_p', above=0, at_most=1)
        if p.method == 'greedy':
            hyperparams.Require(
                p, p.num_hyps == 1, 'num_hyps', '1 with method=greedy, which finds one hypothesis'
            )
        if p.method == 'beam':
            hyperparams.Require(
                p, p.num_hyps <= p.beam_size, 'num_hyps', f'at most beam_size={p.beam_size} of them'
            )

    def __init__(self, params: hyperparams.Params):
        self.params = params

    def MaxLengths(self, source_lengths: tf.Tensor) -> tf.Tensor:
        """The limit of each hypothesis, from its own source: max_ratio * length + max_steps.

        Args:
          source_lengths: int [batch], 0 on fill rows.

        Returns:
          int32 [batch], in tokens with </s>, rounded down; 0 where the source is empty.
        """
        p = self.params
        lengths = tf.cast(source_lengths, tf.float32)
        limits = tf.cast(tf.floor(p.max_ratio * lengths), tf.int32) + p.max_steps
        return tf.where(lengths > 0, limits, 0)

    def Decode(
        self,
        scorer: scorers.Scorer,
        max_lengths: tf.Tensor,
        example_ids: Optional[tf.Tensor] = None,
    ) -> NestedMap:
        """Hypotheses for each sentence.

        Args:
          scorer: the model.
          max_lengths: int [batch], from `MaxLengths` or the caller's own: the most tokens that a
            hypothesis may have, </s> included. A hypothesis still open before its last token is
            closed there by </s>, whose log-probability it pays. 0 on fill rows.
          example_ids: int [batch], for method=sample: what a sample depends on beside the seed.

        Returns:
          NestedMap, best hypothesis first (samples: in the order drawn):
            ids: int32 [batch, num_hyps, time], without <s>; eos_id from the end on.
            lengths: int32 [batch, num_hyps], tokens without </s>.
            scores: float32 [batch, num_hyps]. -inf where there is no hypothesis: on fill rows, and
              where fewer than num_hyps are possible.
            attention: float32 [batch, num_hyps, time, source_time], or None if the scorer gives
              none.

        Raises:
          ValueError: if example_ids or attention are missing where they are needed.
        """
        p = self.params
        if p.method == 'greedy':
            return sampling.greedy_search(scorer, max_lengths, p.length_normalization)
        if p.method == 'beam':
            return beam_search.beam_search(
                scorer,
                max_lengths,
                p.beam_size,
                p.num_hyps,
                p.length_normalization,
                p.coverage_penalty,
            )
        if example_ids is None:
            raise ValueError('method=sample needs example_ids: samples are drawn for each of them.')
        return sampling.sample(
            scorer,
            max_lengths,
            example_ids,
            p.seed,
            p.num_hyps,
            p.temperature,
            p.top_k,
            p.top_p,
            p.length_normalization,
        )
