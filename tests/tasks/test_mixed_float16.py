"""A step in float16 is one in float32: the loss to 1%, and the direction of the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tiny_tasks

from lingvo_lite.training import gradients, precision

# One of each kind of layer; a CPU's float16 convolutions are slow.
NAMES = tiny_tasks.Marked(
    tiny_tasks.Names('asr', 'lm', 'mt'),
    fast=[
        'asr.LibrispeechWave2Letter',  # dilated dense blocks
        'asr.LibrispeechConformerS',
        'asr.SpokenDigits',
        'asr.SpokenDigitsLas',
        'lm.LibrispeechChar',
    ],
)


@pytest.mark.parametrize('name', NAMES)
def test_a_step_agrees_with_float32(name):
    (loss, wanted), (low_loss, found) = (Step(name, p) for p in ('float32', 'mixed_float16'))
    assert low_loss == pytest.approx(loss, rel=0.01)
    assert np.isfinite(found).all() and np.linalg.norm(wanted) > 1e-3
    cosine = found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted))
    assert 0.99 < cosine < 1 - 1e-9  # and it was float16


def Step(name, policy):
    """(loss, the gradients of all variables in one row) of a step in this precision."""
    p = tiny_tasks.Quiet(tiny_tasks.Params(name, **{'train.precision': policy}))
    dtype = precision.Apply(p).dtype
    task = p.Instantiate()
    gradient = gradients.LossGradient(task, {(): task.TrainableVariables()}, 1)
    # Gradients of networks so small are large.
    scale = tf.constant(128.0) if dtype == tf.float16 else None
    batch = tiny_tasks.Batch(p, [5, 6, 7, 13, 18]).Transform(tf.constant)
    out = gradient(batch, gradients.Settings(0, None, scale))
    flat = [np.ravel(value) for _, value in sorted(out.gradients.items())]
    return float(out.loss), np.concatenate(flat).astype(np.float64)
