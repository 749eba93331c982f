"""a: our training step over one by hand. b: our step in mixed_bfloat16 over that in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lingvo_lite.nested_map import NestedMap
from lingvo_lite.tasks.mt.params import transformer, wmt
from lingvo_lite.training import learner, precision

from . import results, step_by_hand, turns


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of the model and of a batch: rows sentences of `time` tokens on each side."""

    vocab_size: int = 8000
    dim: int = 512
    hidden: int = 2048
    heads: int = 8
    layers: int = 2
    rows: int = 64
    time: int = 32


# Transformer base's width, 2 + 2 layers, 4,096 tokens with those of both sides.
FULL = Sizes()
QUICK = Sizes(vocab_size=64, dim=16, hidden=32, heads=2, rows=4, time=6)
_CLIP = 1.0


def task_params(sizes: Sizes, policy: str, rate: float = 0.1) -> Any:
    """mt.WmtEnDe's Params in these sizes, with clipping."""
    p = wmt.WmtEnDe().Task()
    small = transformer.Model(
        sizes.vocab_size, sizes.dim, sizes.hidden, sizes.heads, sizes.layers, rate
    )
    for part in ('vocab_size', 'model_dim', 'input_dropout', 'encoder', 'decoder'):
        p.Set(**{part: small.Get(part)})
    p.train.lr_schedule.model_dim = sizes.dim
    p.train.clip_gradient_norm_to_value = _CLIP
    p.train.precision = policy
    precision.Apply(p)
    return p


def random_batch(sizes: Sizes) -> NestedMap:
    """Sentences of random tokens, of 3/4 of the time or more."""
    rng = np.random.RandomState(0)

    def ids() -> np.ndarray:
        return rng.randint(3, sizes.vocab_size, size=[sizes.rows, sizes.time]).astype(np.int32)

    def paddings() -> np.ndarray:
        lengths = rng.randint(sizes.time * 3 // 4, sizes.time + 1, size=[sizes.rows, 1])
        lengths[0] = sizes.time
        return (np.arange(sizes.time) >= lengths).astype(np.float32)

    target_paddings = paddings()
    return NestedMap(
        id=np.arange(sizes.rows),
        row_weight=np.ones(sizes.rows, np.float32),
        source=NestedMap(ids=ids(), paddings=paddings()),
        target=NestedMap(
            ids=ids(), labels=ids(), paddings=target_paddings, weights=1.0 - target_paddings
        ),
    )


def make_ours(params: Any) -> learner.Learner:
    """The learner of a new task."""
    return learner.Learner(params.Instantiate(), tf.distribute.get_strategy())


def make_by_hand(params: Any, task: Any, keras_adam: bool = False) -> step_by_hand.TrainingByHand:
    """The same training by hand, from the values that the task's variables have."""
    optimizer, train = params.train.optimizer, params.train
    training = step_by_hand.Training(
        rate=params.input_dropout.rate,
        smoothing=params.softmax.label_smoothing,
        clip=train.clip_gradient_norm_to_value,
        beta1=optimizer.beta1,
        beta2=optimizer.beta2,
        epsilon=optimizer.epsilon,
        warmup_steps=train.lr_schedule.warmup_steps,
        keras_adam=keras_adam,
    )
    values = {path: variable.numpy() for path, variable in task.AllVariables().items()}
    encoder = params.encoder
    return step_by_hand.TrainingByHand(
        values, encoder.num_layers, encoder.num_heads, params.fprop_dtype, training
    )


def our_step(trainer: learner.Learner, batch: NestedMap) -> Callable[[], float]:
    """One step as the trainer takes it; returns the loss."""
    return lambda: trainer.TrainStep([batch]).Read().loss


def step_of_hand(training: step_by_hand.TrainingByHand, batch: NestedMap) -> Callable[[], float]:
    """One step by hand; returns the loss."""
    source, target = batch.source, batch.target
    fields = (source.ids, source.paddings, target.ids, target.labels, target.paddings)
    return lambda: float(training.step(*map(tf.convert_to_tensor, fields))[0])


def over_by_hand(quick: bool) -> Iterator[results.Result]:
    """Our step over the same mathematics by hand, with the fused and with Keras' Adam."""
    sizes, rounds = (QUICK, 3) if quick else (FULL, 20)
    batch = random_batch(sizes)
    for policy in ('float32', 'mixed_bfloat16'):
        params = task_params(sizes, policy)
        ours = make_ours(params)
        fused = make_by_hand(params, ours.task)
        with_keras = make_by_hand(params, ours.task, keras_adam=True)
        seconds = turns.in_turn(
            {
                'ours': our_step(ours, batch),
                'fused': with_default_optimizer(step_of_hand(fused, batch)),
                'fused, lean': step_of_hand(fused, batch),
                'keras': with_default_optimizer(step_of_hand(with_keras, batch)),
            },
            rounds,
        )
        own = seconds['ours']
        yield results.from_pairs(
            f'a {policy}',
            own,
            seconds['fused'],
            at_most=1.03,
            note='our training step / by hand',
        )
        yield results.from_pairs(
            f'a {policy}, same graph options',
            own,
            seconds['fused, lean'],
            note='our training step / by hand with disable_meta_optimizer, as our jobs have it',
        )
        yield results.from_pairs(
            f'a {policy}, Keras',
            own,
            seconds['keras'],
            at_most=1.03,
            note="our training step / by hand with keras.optimizers.Adam's own update",
        )


def bfloat16_over_float32(quick: bool) -> Iterator[results.Result]:
    """Our step in mixed_bfloat16 over that in float32."""
    sizes, rounds = (QUICK, 3) if quick else (FULL, 20)
    batch = random_batch(sizes)
    seconds = turns.in_turn(
        {
            policy: our_step(make_ours(task_params(sizes, policy)), batch)
            for policy in ('mixed_bfloat16', 'float32')
        },
        rounds,
    )
    yield results.from_pairs(
        'b',
        seconds['mixed_bfloat16'],
        seconds['float32'],
        note='our step in mixed_bfloat16 / in float32',
    )


def with_default_optimizer(function: Callable[[], Any]) -> Callable[[], Any]:
    """`function` under TensorFlow's default graph optimizer, which our jobs turn off."""

    def call() -> Any:
        before = tf.config.optimizer.get_experimental_options().get('disable_meta_optimizer', False)
        tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': False})
        try:
            return function()
        finally:
            tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': before})

    return call
