"""From the frame by frame output of a CTC model to text (Graves et al. 2006).

An alignment has one symbol a frame, a token or the blank. It stands for the tokens that are left
when runs of one symbol are made one and blanks are dropped:  _ a a _ a b b  ->  a a b.

Hypotheses do not depend on the other utterances of the batch, their number or the padding.
"""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.decoding.ctc.greedy import greedy
from lingvo_lite.decoding.ctc.prefix_beam_search import prefix_beam_search
from lingvo_lite.decoding.language_models import fusion
from lingvo_lite.hyperparams import Self
from lingvo_lite.nested_map import NestedMap


class CtcSearch:
    """Greedy or prefix beam search over a CTC model's output.

    search = CtcSearch.Params().Set(method='beam', beam_size=16).Instantiate()
    hyps = search.Decode(logits, paddings)
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = hyperparams.InstantiableParams(cls)

        def Define(name: str, default: Any, description: str, **kwargs: Any) -> None:
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
    def Check(cls, params: hyperparams.Params) -> None:
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

    def __init__(self, params: hyperparams.Params):
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
