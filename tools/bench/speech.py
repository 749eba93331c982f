"""h: the training step of speech recognition over one by hand; those of other families."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lingvo_lite import registry
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.tasks.asr.params import spoken_digits
from lingvo_lite.tasks.lm import model as lm_model
from lingvo_lite.training import learner, precision

from . import results, speech_by_hand, step, turns

_CTC, _LAS, _LM = 'asr.SpokenDigits', 'asr.SpokenDigitsLas', 'lm.LibrispeechChar'


def task_params(name: str, quick: bool) -> Any:
    """The Params of an experiment's task, in float32; those of the LM in a size for a bench."""
    experiment = registry.Get(name)()
    p = experiment.Tiny() if quick else experiment.Task()
    if name == _LM and not quick:
        lm_model.Sizes(p, model_dim=64, num_layers=2, cell_dim=256)
    p.train.precision = 'float32'
    precision.Apply(p)
    return p


def random_digits(quick: bool) -> NestedMap:
    """A batch as asr.SpokenDigits has it: noise at 8 kHz, of 3/4 of the time or more, and texts."""
    rows, samples, most = (3, 4000, 3) if quick else (20, 24000, 7)
    rng = np.random.RandomState(0)
    counts = rng.randint(samples * 3 // 4, samples + 1, size=rows).astype(np.int32)
    counts[0] = samples
    waveform = rng.normal(scale=0.1, size=[rows, samples]).astype(np.float32)
    waveform[np.arange(samples) >= counts[:, np.newaxis]] = 0.0
    source = NestedMap(waveform=waveform, num_samples=counts)
    return _batch(rng, rows, most, spoken_digits.VOCAB_SIZE, source=source)


def random_lines(quick: bool, vocab_size: int) -> NestedMap:
    """A batch of a language model."""
    rows, most = (3, 7) if quick else (32, 127)
    return _batch(np.random.RandomState(0), rows, most, vocab_size)


def _batch(rng: Any, rows: int, most: int, vocab_size: int, **fields: Any) -> NestedMap:
    """Texts of 1 to `most` random tokens; target.ids begin with <s>, labels end with </s>."""
    lengths = rng.randint(1, most + 1, size=[rows, 1])
    lengths[0] = most
    tokens = rng.randint(3, vocab_size, size=[rows, most]).astype(np.int32)
    ids = np.pad(tokens, [[0, 0], [1, 0]], constant_values=1)
    labels = np.pad(tokens, [[0, 0], [0, 1]])
    places = np.arange(most + 1)
    labels[places == lengths] = 2
    paddings = (places > lengths).astype(np.float32)
    target = NestedMap(ids=ids, labels=labels, paddings=paddings, weights=1.0 - paddings)
    return NestedMap(
        id=np.arange(rows), row_weight=np.ones(rows, np.float32), target=target, **fields
    )


def make_ours(params: Any) -> learner.Learner:
    """The learner of a new task."""
    return learner.Learner(params.Instantiate(), tf.distribute.get_strategy())


def make_by_hand(
    params: Any, task: Any, kernel_of_tensorflow: bool = False
) -> speech_by_hand.SpeechByHand:
    """The same training by hand, from the values that the task's variables have."""
    values = {path: variable.numpy() for path, variable in task.AllVariables().items()}
    return speech_by_hand.SpeechByHand(params, values, kernel_of_tensorflow)


def step_of_hand(training: speech_by_hand.SpeechByHand, batch: NestedMap) -> Callable[[], float]:
    """One step by hand; returns the loss."""
    source, target = batch.source, batch.target
    lengths = np.sum(1.0 - target.paddings[:, 1:], axis=1).astype(np.int32)
    fields = (source.waveform, source.num_samples, target.ids[:, 1:], lengths)
    return lambda: float(training.step(*map(tf.convert_to_tensor, fields)))


def speech_over_by_hand(quick: bool) -> Iterator[results.Result]:
    """Our CTC step (asr.SpokenDigits, float32) over one by hand; seconds of others."""
    rounds = 3 if quick else 20
    digits = random_digits(quick)
    params = task_params(_CTC, quick)
    ours = make_ours(params)
    by_hand = step_of_hand(make_by_hand(params, ours.task), digits)
    kernel = step_of_hand(make_by_hand(params, ours.task, kernel_of_tensorflow=True), digits)
    seconds = turns.in_turn(
        {
            'ours': step.our_step(ours, digits),
            'hand': step.with_default_optimizer(by_hand),
            'hand, lean': by_hand,
            'kernel': step.with_default_optimizer(kernel),
        },
        rounds,
    )
    own = seconds['ours']
    for name, other, at_most, note in (
        ('', 'hand', 1.03, 'by hand'),
        (', same graph options', 'hand, lean', None, 'with disable_meta_optimizer, as our jobs'),
        (', tf.nn.ctc_loss', 'kernel', 1.03, "by hand with TensorFlow's own loss"),
    ):
        note = f'our training step, {_CTC} / {note}'
        yield results.from_pairs(f'h CTC{name}', own, seconds[other], at_most=at_most, note=note)
    yield _seconds('h CTC, a step', own, digits)

    las = task_params(_LAS, quick)
    lm = task_params(_LM, quick)
    lines = random_lines(quick, lm.vocab_size)
    seconds = turns.in_turn(
        {
            'LAS': step.our_step(make_ours(las), digits),
            'LM': step.our_step(make_ours(lm), lines),
        },
        rounds,
    )
    yield _seconds('h LAS, a step', seconds['LAS'], digits)
    yield _seconds('h LM, a step', seconds['LM'], lines)


def _seconds(name: str, taken: np.ndarray, batch: NestedMap) -> results.Result:
    low, high = results.median_interval(taken)
    rows, value = len(batch.id), float(np.median(taken))
    note = f'{rows} examples a step, {rows / value:.1f} examples/s'
    return results.Result(name, value, low, high, unit='s', note=note)
