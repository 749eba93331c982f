"""Experiments made small, and utterances that none of them ever heard."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import registry, step
from lingvo_lite.inputs.text import tokenizers
from lingvo_lite.nested_map import NestedMap

EXAMPLES = 32
FILL = -1  # the id of a row of padding
_RNG = np.random.default_rng(0)
# In units of a 16,000th of a second, up to 0.45 s: a sample, a frame, silence, a second silence.
LENGTHS = [1, 160, 7000, 4000, *_RNG.integers(1, 7200, EXAMPLES - 4).tolist()]
SILENT = (2, 3)
_HERTZ = [_RNG.uniform(150, 3500, 9) for _ in LENGTHS]
_WORDS = [_RNG.integers(0, 10, n % 4) for n in range(EXAMPLES)]  # every fourth text is empty


# One of each model with each encoder.
KINDS = [
    'asr.SpokenDigits',
    'asr.SpokenDigitsLas',
    'asr.LibrispeechMini',
    'asr.LibrispeechConformerS',
    'asr.LibrispeechConformerSLas',
    'lm.LibrispeechChar',
    'mt.NumbersEnDe',
]


def Marked(names, fast):
    """Parameters of a test: those that are not in `fast` are slow."""
    assert set(fast) <= set(names)
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


def Names(*families):
    """The experiments of these families."""
    return [name for name in registry.List() if name.split('.')[0] in families]


def Params(name, **settings):
    """Task Params of an experiment's Tiny(), in float32."""
    p = registry.Get(name)().Tiny()
    p.train.precision = 'float32'
    p.random_seed = 3
    return p.Set(**settings)


def Quiet(p):
    """Task Params p, without draws over activations."""
    drawing = ('_prob', '.rate', '.dither', 'mask_count', 'warp_max_frames')
    for key in Keys(p):
        if key.endswith(drawing) and p.Get(key):
            p.Set(**{key: type(p.Get(key))(0)})
    return p


def Keys(p):
    """The paths of all leaves of Params."""
    return [line.split(' : ')[0] for line in p.ToText().split('\n') if ' : ' in line]


def VocabSize(p):
    """The number of tokens of task Params."""
    return p.vocab_size if 'vocab_size' in p else p.decoder.vocab_size


def Batch(p, ids, pad=0):
    """The examples of these ids, as the family of task Params p takes them.

    Args:
      p: task Params.
      ids: of examples; FILL is a row of padding.
      pad: of speech, samples more than the longest needs.
    """
    rate = int(p.frontend.sample_rate) if 'frontend' in p else 1000
    batch = Speech(ids, rate, pad)
    if 'frontend' not in p:
        # What is read is what is to be written.
        batch.source = NestedMap(ids=batch.target.labels, paddings=batch.target.paddings)
    return batch


def Speech(ids, rate, pad=0):
    """The utterances of these ids; `pad` samples more than the longest needs."""
    waves = [_Wave(i, rate) for i in ids]
    rows = len(ids)
    waveform = np.zeros([rows, max(1, *map(len, waves)) + pad], np.float32)
    target, labels = np.zeros([2, rows, 8], np.int32)
    paddings = np.ones([rows, 8], np.float32)
    for row, i in enumerate(ids):
        waveform[row, : len(waves[row])] = waves[row]
        if i != FILL:
            tokens = tokenizers.NUM_SPECIAL + _WORDS[i]
            count = len(tokens) + 1
            target[row, :count], labels[row, :count] = [1, *tokens], [*tokens, 2]
            paddings[row, :count] = 0
    return NestedMap(
        source=NestedMap(
            waveform=waveform, num_samples=np.array([len(wave) for wave in waves], np.int32)
        ),
        target=NestedMap(ids=target, labels=labels, paddings=paddings, weights=1 - paddings),
        id=np.array(ids, np.int64),
        row_weight=(np.array(ids) != FILL).astype(np.float32),
    )


def _Wave(i, rate):
    """Tones of 50 ms, and a little noise."""
    count = 0 if i == FILL else -(-LENGTHS[i] * rate // 16000)
    if i in SILENT or not count:
        return np.zeros(count, np.float32)
    hertz = np.repeat(_HERTZ[i], rate // 20)[:count]
    noise = np.random.default_rng(i).normal(size=count)
    return (0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / rate) + 0.01 * noise).astype(np.float32)


def Awake(p):
    """A recognizer whose texts differ from utterance to utterance, in silence too.

    Statistics are those of all utterances, weights are drawn, and CTC logits are brought to where
    tokens change from frame to frame.
    """
    p = p.Copy()
    for key in Keys(p):
        if key.endswith('batch_norm.decay'):
            p.Set(**{key: 0.0})
    task = p.Instantiate()
    draw = np.random.default_rng(5)
    for path, variable in task.TrainableVariables().items():
        if len(variable.shape) == 1:
            variable.assign_add(0.1 * draw.normal(size=variable.shape))
        if path.startswith('decoder') or 'lstm' in path:
            variable.assign(draw.normal(size=variable.shape, scale=0.7))
    batch = Speech(range(EXAMPLES), int(p.frontend.sample_rate)).Transform(tf.constant)
    with step.Context(training=True):
        task.encoder(*task._Features(batch))
    if 'logits' in p:
        with step.Context(training=False):
            x, paddings = task.encoder(*task._Features(batch))
        x = x.numpy()[paddings.numpy() < 0.5]
        w = draw.normal(size=task.logits.vars.w.shape)
        w *= 1.5 / np.std(x @ w, axis=0)
        task.logits.vars.w.assign(w)
        task.logits.vars.b.assign(-np.mean(x @ w, axis=0))
    return task
