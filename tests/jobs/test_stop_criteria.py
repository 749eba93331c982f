"""When training is over."""

from __future__ import annotations

import pytest

from lingvo_lite import hyperparams, task
from lingvo_lite.jobs import stop_criteria
from lingvo_lite.runs import metrics_log, rundir


@pytest.fixture
def scored(tmp_path):
    """Scores of a run: best at step 200, then worse, then not a number."""
    (tmp_path / 'eval_dev').mkdir()
    log = metrics_log.MetricsLog(str(tmp_path / 'eval_dev/metrics.jsonl'))
    for step, value in ((100, 3.0), (200, 2.5), (300, 2.5), (400, 2.7), (500, float('nan'))):
        log.Append(step, {'log_pplx': value})
    return rundir.RunDir(str(tmp_path))


def make(run, best_mode='min', **train):
    p = hyperparams.Params()
    p.Define('train', task.TrainParams().Set(**train), 'Training.')
    p.Define('eval', task.EvalParams().Set(best_mode=best_mode), 'Evaluation.')
    return stop_criteria.Ending(run, p)


def test_the_best_score_is_the_first_of_equal_ones(scored):
    assert make(scored).Best(10_000) == (200, 2.5)
    assert make(scored).Best(199) == (100, 3.0)
    assert make(scored).Best(99) is None


@pytest.mark.parametrize(('step', 'over'), [(300, False), (499, False), (500, True), (600, True)])
def test_it_ends_when_the_best_is_a_window_ago(scored, step, over):
    assert bool(make(scored, early_stop_window=300).ByScores(step)) == over
    assert make(scored).ByScores(step) is None


def test_large_may_be_good(scored):
    assert make(scored, best_mode='max').Best(10_000) == (100, 3.0)


def test_steps_and_epochs(scored):
    end = make(scored, max_steps=10, max_epochs=2)
    assert end.BySteps(9) is None and 'max_steps=10' in end.BySteps(10)
    assert end.ByEpochs(1) is None and 'max_epochs=2' in end.ByEpochs(2)
    assert make(scored).ByEpochs(1000) is None
