"""CTC search as its Params say."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.decoding.ctc import search
from lingvo_lite.decoding.ctc.greedy import greedy
from lingvo_lite.decoding.ctc.prefix_beam_search import prefix_beam_search
from lingvo_lite.decoding.language_models import fusion


def test_the_params_say_how_to_search():
    logits = np.random.RandomState(2).normal(size=[3, 7, 6]).astype(np.float32)
    log_probs = tf.nn.log_softmax(tf.constant(logits))
    paddings = tf.constant((np.arange(7) >= np.array([7, 3, 5])[:, None]).astype(np.float32))
    logits = log_probs + 3.0
    lm = fusion.WordCount(fusion.Vocabulary(['', '', '', ' ', 'a', 'b'], bos_id=1, eos_id=2))
    p = search.CtcSearch.Params()
    got = p.Instantiate().Decode(logits, paddings)
    wanted = greedy(log_probs, paddings)
    np.testing.assert_array_equal(got.ids, wanted.ids)
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-5)
    with pytest.raises(ValueError, match="needs method='beam'"):
        p.Instantiate().Decode(logits, paddings, lm=lm)
    p.Set(method='beam', beam_size=3, num_hyps=2)
    got = p.Instantiate().Decode(logits, paddings, lm=lm)
    wanted = prefix_beam_search(log_probs, paddings, 3, 2, lm=lm)
    np.testing.assert_array_equal(got.ids, wanted.ids)
    np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-5)
    alone = prefix_beam_search(log_probs, paddings, 3, 2)
    assert np.abs(got.scores - alone.scores).max() > 0.5


@pytest.mark.parametrize(
    ('values', 'error'),
    [
        ({'beam_size': 0}, 'beam_size=0 must be at least 1'),
        ({'num_hyps': 3}, 'num_hyps=3 must be 1 with method=greedy'),
        ({'method': 'beam', 'beam_size': 2, 'num_hyps': 3}, 'must be at most beam_size=2'),
        ({'tokens_per_frame': -1}, 'tokens_per_frame=-1 must be at least 0 .0 for all'),
    ],
)
def test_values_out_of_range_are_errors(values, error):
    with pytest.raises(hyperparams.ConfigError, match=error):
        search.CtcSearch.Params().Set(**values).Instantiate()
