"""Searches drive the real decoder's caches: scores are those of the whole sequence at once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.decoding import scorers, search
from lingvo_lite.layers import transformer

DIM, VOCAB, BATCH, SOURCE = 8, 16, 11, 5


class TransformerScorer(scorers.Scorer):
    """A TransformerDecoder with random embeddings, and no positions."""

    bos_id, eos_id = 0, 1

    def __init__(self):
        p = transformer.TransformerDecoder.Params()
        p.Set(
            name='decoder', num_layers=2, model_dim=DIM, num_heads=2, hidden_dim=16, random_seed=3
        )
        self.decoder = p.Instantiate()
        rng = np.random.RandomState(0)
        self.embeddings = rng.normal(size=[VOCAB, DIM]).astype(np.float32)
        self.output = rng.normal(size=[DIM, VOCAB]).astype(np.float32)
        self.source = rng.normal(size=[BATCH, SOURCE, DIM]).astype(np.float32)
        lengths = rng.randint(1, SOURCE + 1, size=[BATCH, 1])
        self.source_paddings = (np.arange(SOURCE) >= lengths).astype(np.float32)

    def Init(self):
        return self.decoder.InitStates(*map(tf.constant, (self.source, self.source_paddings)))

    def Step(self, ids, position, state):
        x = tf.gather(self.embeddings, ids)
        x, state, attention = self.decoder.ExtendStep(x, state, return_attention=True)
        return tf.matmul(x, self.output), state, attention

    def whole(self, sentence, tokens):
        """log-probability of tokens + </s>, and the attention of each, in one pass."""
        x = tf.gather(self.embeddings, [[self.bos_id, *tokens]])
        rows = slice(sentence, sentence + 1)
        source = tf.constant(self.source[rows]), tf.constant(self.source_paddings[rows])
        paddings = tf.zeros(x.shape[:2])
        y, attention = self.decoder.FProp(x, paddings, *source, return_attention=True)
        log_probs = tf.nn.log_softmax(tf.matmul(y, self.output))[0].numpy()
        closed = [*tokens, self.eos_id]
        return log_probs[range(len(closed)), closed].sum(), attention[0].numpy()


@pytest.mark.parametrize(
    'values', [{'method': 'greedy'}, {'method': 'beam', 'num_hyps': 3}, {'method': 'sample'}]
)
def test_scores_and_attention_equal_those_of_the_whole_hypothesis(values):
    with step.Context(training=False, step=0, seed=1):
        scorer = TransformerScorer()
        decode = search.Search.Params().Set(**values).Instantiate().Decode

        @tf.function(autograph=False)
        def Graph(limits):
            found = decode(scorer, limits, example_ids=tf.range(BATCH))
            return found.ids, found.lengths, found.scores, found.attention

        limits = tf.range(BATCH) + 2
        ids, lengths, scores, attention = (x.numpy() for x in Graph(limits))
        assert len(np.unique(lengths)) > 3
        for sentence, hyp in np.ndindex(*scores.shape):
            length = lengths[sentence, hyp]
            expected, attended = scorer.whole(sentence, ids[sentence, hyp, :length].tolist())
            np.testing.assert_allclose(scores[sentence, hyp], expected, atol=1e-4)
            got = attention[sentence, hyp, :length]
            np.testing.assert_allclose(got, attended[:length], atol=1e-5)
