"""One of several workers: python one_worker.py FOLDER SCENARIO..., with TF_CONFIG set.

A scenario is 'overflow', 'shared' or the name of an experiment. See test_workers.
"""

import json
import os
import sys

import numpy as np
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), 'tasks')]
strategy = tf.distribute.MultiWorkerMirroredStrategy()

import conftest as tiny  # noqa: E402  (the strategy must be the first to use TensorFlow)
import test_one_equals_many as whole  # noqa: E402

from lingvo_lite.training.debugging import first_bad_layer  # noqa: E402


def Overflow(worker, count):
    """Steps that overflow on one worker, on each in turn; all that there is after each."""
    learner = tiny.Learner(tiny.OverflowParams(), strategy)
    values = {}
    for number in range(3 * count + 1):
        batch = tiny.OverflowBatch(worker, number)
        numbers = learner.TrainStep([batch]).Read()
        values.update(After(number, learner, numbers))
        values[f'{number}.loss_scale'] = np.array(numbers.loss_scale)
        if not numbers.finite:
            finding = first_bad_layer.Find(learner, [batch], number)
            values[f'{number}.finding'] = np.array(' '.join(finding))
    return values


def Shared(worker, count):
    """A step on each of the global batches; all that there is after each."""
    learner = tiny.Learner(tiny.SharedParams(), strategy)
    values = {}
    for number, rows in enumerate(tiny.SHARED_ROWS):
        numbers = learner.TrainStep([tiny.Share(rows, worker, count)]).Read()
        values.update(After(number, learner, numbers))
    return values


def Whole(name, worker, count):
    """Steps of an experiment's task; all that there is after each."""
    p = whole.Params(name)
    learner = whole.Learner(p, strategy)
    values = {}
    for number, ids in enumerate(whole.STEPS):
        numbers = learner.TrainStep([whole.Batches(p, ids, count)[worker]]).Read()
        values.update(After(number, learner, numbers))
    return values


def After(number, learner, numbers):
    """{name: value} of a step: 'NUMBER.loss', 'NUMBER.finite' and 'NUMBER/PATH' of the state."""
    state = {f'{number}/{path}': value for path, value in tiny.Values(learner.State()).items()}
    shown = {f'{number}.{key}': np.array(numbers[key]) for key in ('loss', 'finite')}
    return {**shown, **state}


def main():
    config = json.loads(os.environ['TF_CONFIG'])
    worker, count = config['task']['index'], len(config['cluster']['worker'])
    folder, *scenarios = sys.argv[1:]
    for name in scenarios:
        if name == 'overflow':
            values = Overflow(worker, count)
        elif name == 'shared':
            values = Shared(worker, count)
        else:
            values = Whole(name, worker, count)
        found = {key.replace('/', '|'): value for key, value in values.items()}
        np.savez(os.path.join(folder, f'{name}_{worker}.npz'), **found)


if __name__ == '__main__':
    main()
