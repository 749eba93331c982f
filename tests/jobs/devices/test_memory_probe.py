"""Memory: the largest batch is tried first, and what does not fit is named."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tiny_experiment
from job_runs import assert_equal_checkpoints, train

from lingvo_lite import experiment, hyperparams, overrides
from lingvo_lite.inputs import mixed_input, order, pipeline
from lingvo_lite.jobs.devices import memory_probe
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import learner

BATCH = NestedMap(target=NestedMap(ids=np.zeros([3, 4], np.int32)))
FOLDER = os.path.dirname(tiny_experiment.__file__)


def OutOfMemory(*args):
    raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')


def test_the_buckets_are_those_of_the_batches(data_folder):
    inputs = tiny_experiment.Digits().Train().Instantiate()
    plans = list(itertools.takewhile(lambda plan: plan.epoch == 0, inputs.Order(True).Walk()))
    wanted = {}
    for plan in plans:
        wanted[plan.padded] = max(wanted.get(plan.padded, 0), len(plan.ids))
    found = inputs.Order(True).Buckets()
    assert {plan.padded: len(plan.ids) for plan in found} == wanted and len(wanted) > 1
    (batch,) = inputs.Arrays(found[-1])
    assert batch.id.tolist() == found[-1].ids.tolist()
    assert batch.target.ids.shape == (len(found[-1].ids), found[-1].padded[1])


def test_the_largest_has_long_rows_among_those_with_as_many_tokens():
    def Plan(rows, *padded):
        return order.PlannedBatch(0, 0, np.arange(rows), padded, 0, 0, {})

    short, long, small = Plan(100, 8, 8), Plan(9, 80, 88), Plan(1, 200, 200)
    assert order.Largest([short, long, small]) is long


def test_the_largest_batch_is_tried_before_the_first_step(tmp_path, capfd, monkeypatch, finished):
    calls = []
    take, attempt = learner.Learner.TrainStep, learner.Learner.TryStep

    def TrainStep(self, batches):
        calls.append((bool(self._trying), batches[0].target.ids.size))
        return take(self, batches)

    monkeypatch.setattr(learner.Learner, 'TrainStep', TrainStep)
    assert train(tmp_path / 'run') == 0
    assert attempt is learner.Learner.TryStep
    assert [trying for trying, _ in calls] == [True] + [False] * 20
    assert calls[0][1] >= max(size for _, size in calls)
    log = capfd.readouterr().err
    assert 'The largest batch: bucket ' in log and 'It fits into memory: ' in log
    monkeypatch.setattr(memory_probe, 'TryLargest', lambda *args: None)
    assert train(tmp_path / 'untried', '--set=task.train.max_steps=5') == 0
    # Trying it changed nothing.
    assert_equal_checkpoints(tmp_path / 'untried', finished, 5)


def test_a_batch_that_does_not_fit_is_a_mistake_in_the_configuration(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(learner.Learner, 'TryStep', OutOfMemory)
    assert train(tmp_path / 'run') == 2
    error = capfd.readouterr().err.strip().split('\n')[-1]
    assert error.startswith('trainer: tiny_experiment.Digits: out of memory in bucket 8 x ')
    assert ' rows of ' in error and 'Lower input.tokens_per_batch=600, or raise task' in error
    assert "'lingvo_lite tune-batch tiny_experiment.Digits' finds what fits." in error


def test_a_later_batch_that_does_not_fit_is_one_too(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(memory_probe, 'TryLargest', lambda *args: None)
    monkeypatch.setattr(learner.Learner, 'TrainStep', OutOfMemory)
    assert train(tmp_path / 'run') == 2
    assert 'out of memory in a batch; on a replica ' in capfd.readouterr().err


def test_of_a_mixture_the_limits_of_each_part_are_named(data_folder):
    params = experiment.RunParams(tiny_experiment.Digits, 'Train')
    parts = [params.input, params.input.Copy().Set(tokens_per_batch=None, batch_size=9)]
    mixture = mixed_input.MixedInput.Params().Set(inputs=parts, weights=[1, 1])
    params = types.SimpleNamespace(model='x', task=params.task, input=mixture)
    with pytest.raises(hyperparams.ConfigError) as raised, memory_probe.Explained(params, [BATCH]):
        raise MemoryError
    assert (
        'Lower input.inputs[0].tokens_per_batch=600 or input.inputs[1].batch_size=9, or raise'
        in str(raised.value)
    )
    mixture.inputs[0].tokens_per_batch = 5  # the keys are those that --set takes
    overrides.Apply(mixture, ['inputs[0].tokens_per_batch=400', 'inputs[1].batch_size=7'])
    assert pipeline.BatchLimits(mixture) == {
        'inputs[0].tokens_per_batch': 400,
        'inputs[1].batch_size': 7,
    }


def test_other_errors_stay_what_they_are():
    assert memory_probe.IsOutOfMemory(MemoryError())
    assert memory_probe.IsOutOfMemory(
        tf.errors.InternalError(None, None, 'CUDA_ERROR_OUT_OF_MEMORY')
    )
    assert not memory_probe.IsOutOfMemory(ValueError('out of memory'))
    assert not memory_probe.IsOutOfMemory(tf.errors.InternalError(None, None, 'NaN'))


@pytest.mark.slow
def test_a_real_allocation_that_fails_is_told(tmp_path, run_python):
    """The address space is capped, so that nothing but this process is short of memory."""
    code = (
        'import sys; from lingvo_lite import cli\n'
        'from lingvo_lite.jobs.devices import memory_probe\n'
        'attempt = memory_probe.TryLargest\n'
        'def capped(*args):\n'
        '    memory_probe.CapAddressSpace(2**28)\n'
        '    return attempt(*args)\n'
        'memory_probe.TryLargest = capped\n'
        'sys.exit(cli.Trainer(sys.argv[1:]))'
    )
    flags = ['--model=tiny_experiment.Digits', f'--logdir={tmp_path}/run']
    flags += ['--set=input.tokens_per_batch=600000', '--set=task.encoder.hidden_dim=60000']
    done = run_python('-c', code, *flags)
    assert done.returncode == 2, done.stderr
    assert 'out of memory in bucket 8 x 16' in done.stderr.strip().split('\n')[-1]


@pytest.mark.slow
def test_a_trainers_memory_does_not_grow(tmp_path, data_folder):
    """Resident after 2,000 steps as after 200, to 5%."""
    env = {**os.environ, 'PYTHONPATH': FOLDER, 'LINGVO_LITE_DATA': str(data_folder)}
    command = [sys.executable, '-m', 'lingvo_lite.cli', 'trainer', f'--logdir={tmp_path}/run']
    command += ['--model=tiny_experiment.Digits', '--set=task.train.max_steps=2000']
    command += ['--set=task.train.summary_interval_steps=200']
    command += ['--set=task.train.save_interval_steps=100']
    resident = {}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            _, found, rest = line.partition(' step ')
            if found and '/2,000' in rest:
                with open(f'/proc/{process.pid}/status') as status:
                    kb = next(row for row in status if row.startswith('VmRSS')).split()[1]
                resident[int(rest.split('/')[0].replace(',', ''))] = int(kb)
    assert process.returncode == 0 and {200, 2000} <= resident.keys()
    assert resident[2000] == pytest.approx(resident[200], rel=0.05), resident
