"""From the log-probability of a hypothesis to its score.

score(Y, X) = log P(Y | X) / lp(Y) + cp(X, Y), after Wu et al. 2016, "Google's Neural Machine
Translation System", section 7, equation 14. https://arxiv.org/abs/1609.08144
"""

from __future__ import annotations

import tensorflow as tf

_LEAST_COVERAGE = 1e-6


def length_penalty(length: tf.Tensor, alpha: float) -> tf.Tensor:
    """lp(Y) = (5 + |Y|)^alpha / (5 + 1)^alpha.

    Args:
      length: int, any shape: number of tokens with </s>.
      alpha: at least 0; with 0 the penalty is 1 and scores are log-probabilities.

    Returns:
      float32 of the same shape. Never falls as the length grows.
    """
    return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, alpha)


def coverage_penalty(attention: tf.Tensor, source_paddings: tf.Tensor, beta: float) -> tf.Tensor:
    """cp(X, Y) = beta * sum_j log(min(sum_i attention_ij, 1)), over real source positions j.

    A position that got no attention at all counts as one that got 1e-6.

    Args:
      attention: float32 [batch, beams, time, source_time], of all tokens with </s>.
      source_paddings: [batch, source_time].
      beta: at least 0.

    Returns:
      float32 [batch, beams], at most 0.
    """
    # [batch, beams, time, source_time] -> [batch, beams, source_time]
    coverage = tf.clip_by_value(tf.reduce_sum(attention, axis=2), _LEAST_COVERAGE, 1.0)
    real = tf.cast(source_paddings < 0.5, tf.float32)[:, tf.newaxis, :]
    return beta * tf.reduce_sum(tf.math.log(coverage) * real, axis=-1)
