"""c: how many examples the input gives over how many training takes in the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from lingvo_lite import registry
from lingvo_lite.training import learner, precision

from . import results

_MODEL = 'mt.NumbersEnDe'  # its data need nothing but num2words


def make(quick: bool) -> tuple[learner.Learner, Any]:
    """The learner and the input of the experiment."""
    experiment = registry.Get(_MODEL)()
    params = experiment.Tiny() if quick else experiment.Task()
    params.vocab_size = experiment.Task().vocab_size  # that of the input's tokenizer
    precision.Apply(params)
    trainer = learner.Learner(params.Instantiate(), tf.distribute.get_strategy())
    return trainer, experiment.Train().Instantiate()


def measure(trainer: learner.Learner, inputs: Any, rounds: int, batches: int) -> Any:
    """Reads `batches` batches, then trains on them from memory, `rounds` times.

    Threads that make batches end before training begins, and every round begins with none made.

    Returns:
      Seconds an example of training and of reading, [rounds] each.
    """
    training, reading = [], []
    state = None
    for number in range(rounds + 1):
        begin = time.perf_counter()
        with inputs.Batches(start=state) as batches_of_input:
            read = [next(batches_of_input) for _ in range(batches)]
            read_s = time.perf_counter() - begin
        state = read[-1].state
        begin = time.perf_counter()
        for batch in read:
            trainer.TrainStep(batch.replicas).Read()
        trained_s = time.perf_counter() - begin
        if number:  # the first round traces, and fills caches
            examples = sum(batch.num_examples for batch in read)
            training.append(trained_s / examples)
            reading.append(read_s / examples)
    return training, reading


def input_over_training(quick: bool) -> Iterator[results.Result]:
    """Examples/s of the input pipeline over those that training consumes (mt.NumbersEnDe)."""
    trainer, inputs = make(quick)
    training, reading = measure(trainer, inputs, *((2, 3) if quick else (20, 20)))
    yield results.from_pairs(
        'c',
        training,
        reading,
        at_least=1,
        note=f'examples/s of the input / of training, {_MODEL}',
    )
