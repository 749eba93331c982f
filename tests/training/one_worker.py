"""One of several workers: python one_worker.py OUT.npz, with TF_CONFIG set. See test_workers."""

import json
import os
import sys

import numpy as np
import tensorflow as tf

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
strategy = tf.distribute.MultiWorkerMirroredStrategy()

import conftest as tiny  # noqa: E402  (the strategy must be the first to use TensorFlow)

from lingvo_lite.training import first_bad_layer  # noqa: E402


def main():
    worker = json.loads(os.environ['TF_CONFIG'])['task']['index']
    p = tiny.WorkersParams()
    learner = tiny.Learner(p, strategy)
    values = {}
    for number in range(4):
        batch = tiny.WorkersBatch(worker, number)
        numbers = learner.TrainStep([batch]).Read()
        if not numbers.finite:
            finding = first_bad_layer.Find(learner, [batch], number)
            values['finding'] = np.array(' '.join(finding))
        values[f'finite_{number}'] = np.array(numbers.finite)
        values[f'scale_{number}'] = np.array(numbers.loss_scale)
    values.update(tiny.Values(learner.State()))
    np.savez(sys.argv[1], **{name.replace('/', '|'): value for name, value in values.items()})


if __name__ == '__main__':
    main()
