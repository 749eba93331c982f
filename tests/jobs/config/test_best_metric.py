"""Which score best/ is chosen by."""

from __future__ import annotations

import pytest
import tiny_experiment

from lingvo_lite import experiment, hyperparams, registry
from lingvo_lite.jobs.config import best_metric, job_params
from lingvo_lite.runs import rundir


def resolved(cls, **settings):
    """eval.best_mode, after everything is decided."""
    params = experiment.RunParams(cls, 'Train')
    params.task = cls().Tiny()
    params.task.eval.Set(**settings)
    best_metric.Resolve(params, job_params.DryBuild(params), cls, rundir.RunDir('RUN'))
    return params.task.eval.best_mode


@pytest.mark.parametrize(
    ('metric', 'mode'),
    [
        ('decode_dev/bleu', 'max'),
        ('decode_test/chrf', 'max'),
        ('eval_dev/log_pplx', 'min'),
        ('eval_dev/loss', 'min'),
        ('eval_dev/fraction_of_correct_next_step_preds', 'max'),
        ('', 'min'),
    ],
)
def test_each_metric_knows_its_direction(metric, mode):
    assert resolved(tiny_experiment.Digits, best_metric=metric) == mode


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (
            {'best_metric': 'decode_dev/blue'},
            "has no metric 'blue' in decode_dev. It has: bleu, c",
        ),
        ({'best_metric': 'decode_dve/bleu'}, 'Did you mean decode_dev'),
        ({'best_metric': 'bleu'}, "is a folder and a metric in it, such as 'eval_dev/log_pplx'"),
        ({'best_metric': 'decode_dev/bleu', 'best_mode': 'min'}, 'would keep the worst bleu'),
        ({'best_metric': 'eval_dev/examples'}, "set best_mode to 'max' if a large one is good"),
    ],
)
def test_what_cannot_be_meant_is_found_before_training(settings, said):
    with pytest.raises(hyperparams.ConfigError) as raised:
        resolved(tiny_experiment.Digits, **settings)
    assert said in str(raised.value)


@pytest.mark.parametrize('name', registry.List())
def test_every_experiment_has_the_score_that_it_names(name):
    cls = registry.Get(name)
    assert resolved(cls) in ('min', 'max')
    with pytest.raises(hyperparams.ConfigError, match='best_metric'):
        resolved(cls, best_metric='decode_dev/no_such')
