"""One of several workers: python one_worker.py FOLDER, with TF_CONFIG set. See test_workers."""

import json
import os
import sys

import numpy as np
import tensorflow as tf

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
strategy = tf.distribute.MultiWorkerMirroredStrategy()

import conftest as tiny  # noqa: E402  (the strategy must be the first to use TensorFlow)

from lingvo_lite.training import first_bad_layer  # noqa: E402


def Overflow(worker):
    """Four steps, the third of which overflows on one worker."""
    learner = tiny.Learner(tiny.OverflowParams(), strategy)
    values = {}
    for number in range(4):
        batch = tiny.OverflowBatch(worker, number)
        numbers = learner.TrainStep([batch]).Read()
        if not numbers.finite:
            finding = first_bad_layer.Find(learner, [batch], number)
            values['finding'] = np.array(' '.join(finding))
        values[f'finite_{number}'] = np.array(numbers.finite)
        values[f'scale_{number}'] = np.array(numbers.loss_scale)
    return {**values, **tiny.Values(learner.State())}


def Shared(worker, count):
    """A step on each of the global batches; all that there is after each."""
    learner = tiny.Learner(tiny.SharedParams(), strategy)
    values = {}
    for number, rows in enumerate(tiny.SHARED_ROWS):
        numbers = learner.TrainStep([tiny.Share(rows, worker, count)]).Read()
        values[f'{number}/loss'] = np.array(numbers.loss)
        values.update({f'{number}/{k}': v for k, v in tiny.Values(learner.State()).items()})
    return values


def main():
    config = json.loads(os.environ['TF_CONFIG'])
    worker, count = config['task']['index'], len(config['cluster']['worker'])
    for name, values in (('overflow', Overflow(worker)), ('shared', Shared(worker, count))):
        found = {key.replace('/', '|'): value for key, value in values.items()}
        np.savez(os.path.join(sys.argv[1], f'{name}_{worker}.npz'), **found)


if __name__ == '__main__':
    main()
