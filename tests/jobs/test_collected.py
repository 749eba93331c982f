"""A job that has ended leaves nothing in the memory of its process: sweeps run many in one."""

from __future__ import annotations

import gc

import pytest
import tensorflow as tf
from job_runs import decode, evaluate, train

from lingvo_lite import task
from lingvo_lite.inputs import feed, pipeline
from lingvo_lite.training import learner

KINDS = (task.BaseTask, learner.Learner, pipeline.BaseInput, feed.Feed, tf.Graph)
GREEDY = '--set=task.search.method=greedy'


def Alive():
    """The types of what is there."""
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    return sorted(kind.__name__ for kind in kinds if issubclass(kind, KINDS))


@pytest.mark.parametrize('job', ['trainer', 'evaler', 'decoder'])
def test_a_job_leaves_nothing(job, run, tmp_path):
    before = Alive()
    if job == 'trainer':
        steps = '--set=task.train.max_steps=2'
        assert train(tmp_path / 'new', steps, '--eval=Dev', GREEDY) == 0
    else:
        assert {'evaler': evaluate, 'decoder': decode}[job](run, '--once') == 0
    assert Alive() == before
