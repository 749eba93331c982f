"""Starts jobs in this process, and looks at what they leave."""

from __future__ import annotations

import os

import numpy as np

from lingvo_lite import cli
from lingvo_lite.runs import metrics_log
from lingvo_lite.runs.checkpoints import tensors

MODEL = '--model=tiny_experiment.Digits'


def train(run, *flags):
    """Exit code of a trainer."""
    return cli.Trainer([MODEL, f'--logdir={run}', *flags])


def evaluate(run, *flags):
    """Exit code of an evaler of Dev."""
    return cli.Evaler([MODEL, f'--logdir={run}', '--dataset=Dev', *flags])


def decode(run, *flags):
    """Exit code of a decoder of Dev."""
    return cli.Decoder([MODEL, f'--logdir={run}', '--dataset=Dev', *flags])


def lines(run, folder='train'):
    """The lines of a metrics.jsonl, without what the clock decides."""
    timed = ('seconds', 'per_second', 'input_wait')
    return [
        {k: v for k, v in line.items() if not any(t in k for t in timed)}
        for line in metrics_log.Read(os.path.join(run, folder, 'metrics.jsonl'))
    ]


def steps_of(run):
    """The steps that the trainer's folder has checkpoints of."""
    names = os.listdir(os.path.join(run, 'train'))
    return sorted(int(n[5:13]) for n in names if n.endswith('.index'))


def rewind(run, step):
    """Leaves the run as if the trainer had been killed right after the checkpoint of `step`."""
    for name in os.listdir(run / 'train'):
        if name == 'FINISHED' or (name.startswith('ckpt-') and int(name[5:13]) > step):
            (run / 'train' / name).unlink()


def assert_equal_checkpoints(a, b, step):
    """Bit for bit, all of it: variables, slots, averages, counters, input state."""
    name = f'train/ckpt-{step:08d}'
    mine, theirs = (tensors.Restore(os.path.join(run, name)) for run in (a, b))
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)
