"""From flags to Params."""

from __future__ import annotations

import pytest
import tiny_experiment

from lingvo_lite import hyperparams
from lingvo_lite.inputs.text import tokenizers
from lingvo_lite.jobs.config import job_params
from lingvo_lite.runs import rundir

Digits = tiny_experiment.Digits


class OtherTokens(Digits):
    """A dataset in other tokens than those that are trained on."""

    def Dev(self):
        tokenizer = tokenizers.CharacterTokenizer.Params().Set(characters='0123456789abcdefghij ')
        return super().Dev().Set(tokenizer=tokenizer)


def source(*settings, **kwargs):
    return job_params.Source(settings=settings, **kwargs)


@pytest.fixture
def written(tmp_path):
    """A run that has just its params.txt."""
    run = rundir.RunDir(str(tmp_path / 'run'))
    run.Create()
    run.WriteParams(job_params.ForTrainer(Digits, source(), [], run).run, 0)
    return run


def test_input_is_that_of_the_jobs_own_dataset():
    settings = source('input.batch_size=3', 'Dev.input.batch_size=4', 'dev.input.sort_window=7')
    assert (
        job_params.ForDataset(Digits, 'Train', source('input.batch_size=3')).input.batch_size == 3
    )
    dev = job_params.ForDataset(Digits, 'Dev', source(*settings.settings[:2])).input
    assert dev.batch_size == 4
    assert (
        job_params.ForDataset(Digits, 'Test', source(*settings.settings[:2])).input.batch_size == 3
    )


def test_each_dataset_of_eval_has_its_own_settings(tmp_path):
    settings = ['input.batch_size=3', 'Dev.input.batch_size=4']
    run = rundir.RunDir(str(tmp_path / 'run'))
    params = job_params.ForTrainer(Digits, source(*settings), ['Dev', 'Test'], run)
    assert params.run.input.batch_size == 3
    assert params.inputs['Dev'].batch_size == 4
    assert params.inputs['Test'].batch_size is None


def test_a_params_file_goes_before_set(tmp_path):
    (tmp_path / 'p.txt').write_text('task.train.max_steps : 3\ninput.batch_size : 5\n')
    changes = source('input.batch_size=6', params_file=str(tmp_path / 'p.txt'))
    params = job_params.ForDataset(Digits, 'Train', changes)
    assert (params.task.train.max_steps, params.input.batch_size) == (3, 6)
    assert params.Source('task.train.max_steps').endswith('p.txt:1')


def test_scoring_takes_the_task_of_the_run(tmp_path):
    run = rundir.RunDir(str(tmp_path / 'run'))
    run.Create()
    trained = job_params.ForTrainer(Digits, source('task.model_dim=8'), [], run).run
    run.WriteParams(trained, 0)
    params = job_params.ForScoring(Digits, 'Dev', source(), run)
    assert params.task == trained.task
    assert params.input == Digits().Dev()


def test_scoring_may_change_what_is_free(written):
    params = job_params.ForScoring(Digits, 'Dev', source('task.search.beam_size=7'), written)
    assert params.task.search.beam_size == 7
    with pytest.raises(hyperparams.ConfigError, match='task.model_dim : 16 -> 8 .fixed for a run'):
        job_params.ForScoring(Digits, 'Dev', source('task.model_dim=8'), written)


def test_a_dataset_in_other_tokens_is_refused(written):
    with pytest.raises(hyperparams.ConfigError, match='tokenizer of Dev is not the one that'):
        job_params.ForScoring(OtherTokens, 'Dev', source(), written)


def test_tokens_that_flags_chose_for_the_training_hold_for_all_datasets(tmp_path):
    run = rundir.RunDir(str(tmp_path / 'run'))
    run.Create()
    characters = [
        'input.tokenizer=lingvo_lite.inputs.CharacterTokenizer',
        'input.tokenizer.characters=0123456789abcdefghij',
    ]
    begun = job_params.ForTrainer(Digits, source(*characters), [], run)
    run.WriteParams(begun.run, 0)
    for dataset in ('Dev', None):
        params = job_params.ForScoring(Digits, dataset, source(), run)
        assert params.input.tokenizer == begun.run.input.tokenizer
    with pytest.raises(hyperparams.ConfigError, match='a run brings its own'):
        job_params.ForScoring(Digits, 'Dev', source('input.tokenizer.characters=ab'), run)


def test_auto_is_what_the_run_began_with(tmp_path):
    run = rundir.RunDir(str(tmp_path / 'run'))
    run.Create()
    begun = job_params.ForTrainer(Digits, source('task.train.precision=mixed_float16'), [], run)
    run.WriteParams(begun.run, 0)
    again = job_params.ForTrainer(Digits, source('task.train.precision=auto'), [], run)
    assert again.run == begun.run
    assert again.precision.why == 'as this run began'
    with pytest.raises(hyperparams.ConfigError, match='fixed for a run'):
        job_params.ForTrainer(Digits, source('task.train.precision=float32'), [], run)


def test_a_dry_build_allocates_nothing_and_finds_what_does_not_fit():
    params = job_params.ForDataset(Digits, 'Train', source('task.vocab_size=800000000'))
    task = job_params.DryBuild(params)
    assert task.NumParameters() > 800000000 * 16
    params.task.encoder.num_heads = 3
    with pytest.raises(hyperparams.ConfigError, match='num_heads=3 does not divide'):
        job_params.DryBuild(params)


def test_data_that_are_not_there_are_a_mistake_in_the_configuration():
    params = Digits().Train().Set(source_file='tiny/nothing.src')
    with pytest.raises(hyperparams.ConfigError, match='tiny/nothing.src'):
        job_params.BuildInput(params, train=True)
