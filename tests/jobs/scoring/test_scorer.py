"""Evaler and decoder: every checkpoint scored once, exactly, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from job_runs import decode, evaluate, lines, train
from tensorboard.backend.event_processing import event_accumulator

from lingvo_lite import cli, task
from lingvo_lite.jobs.scoring import score_folder
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.runs import locks, metrics_log, rundir
from lingvo_lite.runs.checkpoints import average, tensors
from lingvo_lite.tasks.mt import model

GREEDY = '--set=task.search.method=greedy'


@pytest.fixture(scope='module')
def evaluated(finished, tmp_path_factory):
    """The finished run with an evaler's scores of Dev."""
    run = shutil.copytree(finished, tmp_path_factory.mktemp('evaluated') / 'run')
    assert evaluate(run) == 0
    return run


def test_each_checkpoint_is_scored_once_the_newest_first(evaluated):
    found = lines(evaluated, 'eval_dev')
    assert [line['step'] for line in found] == [20, 15, 10, 5]
    assert all(line['examples'] == 13 for line in found)
    assert not [name for name in os.listdir(evaluated / 'eval_dev') if name.startswith('ckpt-')]


def test_an_evaler_that_starts_again_scores_what_is_missing(evaluated, tmp_path):
    run = shutil.copytree(evaluated, tmp_path / 'run')
    log = run / 'eval_dev/metrics.jsonl'
    whole = log.read_bytes().split(b'\n')
    log.write_bytes(
        b'\n'.join(whole[:2]) + b'\n' + whole[2][:30]
    )  # killed while it wrote the third
    assert evaluate(run) == 0
    assert lines(run, 'eval_dev') == lines(evaluated, 'eval_dev')
    assert evaluate(run) == 0
    assert lines(run, 'eval_dev') == lines(evaluated, 'eval_dev')


def test_the_trainer_scores_as_the_evaler_does(evaluated, tmp_path):
    """Two ways to the moving averages: put in place of variables, and read from a checkpoint."""
    run = tmp_path / 'run'
    assert train(run, '--eval=Dev', '--set=task.train.max_steps=5', GREEDY) == 0
    (mine,) = lines(run, 'eval_dev')
    theirs = lines(evaluated, 'eval_dev')[-1]
    assert mine['step'] == theirs['step'] == 5
    np.testing.assert_allclose(mine['log_pplx'], theirs['log_pplx'], rtol=1e-6)


def test_moving_averages_are_what_is_scored(evaluated, tmp_path):
    run = shutil.copytree(evaluated, tmp_path / 'run')
    everything = tensors.Restore(os.path.join(run, 'train/ckpt-00000005'))
    raw = {name: value for name, value in everything.items() if not name.endswith('/.ema')}
    tensors.Save(os.path.join(run, 'train/ckpt-00000005'), raw)
    assert evaluate(run, f'--checkpoint={run}/train/ckpt-00000005', '--folder=eval_raw') == 0
    assert lines(run, 'eval_raw')[0]['step'] == 5
    difference = lines(run, 'eval_raw')[0]['log_pplx'] - lines(run, 'eval_dev')[-1]['log_pplx']
    assert abs(difference) > 1e-3


def test_two_replicas_see_every_example_once(evaluated, tmp_path, mirrored):
    """13 examples: the batches do not divide, so that one replica gets fill rows."""
    run = shutil.copytree(evaluated, tmp_path / 'run')
    assert evaluate(run, '--once', mirrored, '--folder=two') == 0
    (two,), one = lines(run, 'two'), lines(run, 'eval_dev')[0]
    assert two['examples'] == one['examples'] == 13
    for name in ('log_pplx', 'fraction_of_correct_next_step_preds'):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5)


def test_scores_of_a_few_samples(evaluated, tmp_path):
    run = shutil.copytree(evaluated, tmp_path / 'run')
    flags = ['--once', '--folder=few', '--set=task.eval.samples_per_summary=4']
    assert evaluate(run, *flags) == 0
    assert lines(run, 'few')[0]['examples'] == 4


def test_best_belongs_to_the_job_that_best_metric_names(evaluated, tmp_path):
    best = json.loads((evaluated / 'best/score.json').read_text())['best'][0]
    scores = {line['step']: line['log_pplx'] for line in lines(evaluated, 'eval_dev')}
    assert best['value'] == min(scores.values()) == scores[best['step']]
    run = shutil.copytree(evaluated, tmp_path / 'run')
    shutil.rmtree(run / 'best')
    assert cli.Evaler([f'--logdir={run}', '--model=tiny_experiment.Digits', '--dataset=Test']) == 0
    assert not (run / 'best').exists()


def test_a_metric_that_is_not_there_is_an_error(run, capfd):
    flags = ['--once', '--set=task.eval.best_metric=eval_dev/bleu']
    assert evaluate(run, *flags) == 2
    error = capfd.readouterr().err.strip().split('\n')[-1]
    assert "eval_dev has no metric 'bleu'. It has: " in error and 'log_pplx' in error
    assert lines(run, 'eval_dev') == []


def test_the_average_of_the_last_checkpoints(evaluated, tmp_path):
    run = shutil.copytree(evaluated, tmp_path / 'run')
    assert evaluate(run, '--average_last=3') == 0
    (scored,) = lines(run, 'eval_dev_average_last_3')
    assert scored['step'] == 20
    # The same by hand.
    prefixes = [os.path.join(run, f'train/ckpt-{step:08d}') for step in (10, 15, 20)]
    average.Write(prefixes, str(tmp_path / 'ckpt-00000020'))
    flags = [f'--checkpoint={tmp_path}/ckpt-00000020', '--folder=by_hand']
    assert evaluate(run, *flags) == 0
    assert lines(run, 'by_hand')[0]['log_pplx'] == scored['log_pplx']
    assert len(lines(run, 'eval_dev')) == 4


def test_more_checkpoints_than_there_are_cannot_be_averaged(run, capfd):
    assert evaluate(run, '--average_last=9') == 2
    assert 'has 4 checkpoints, 9 are wanted' in capfd.readouterr().err


def test_a_damaged_checkpoint_is_left_out(run, capfd):
    data = run / 'train/ckpt-00000015.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:1000])
    assert evaluate(run) == 0
    assert [line['step'] for line in lines(run, 'eval_dev')] == [20, 10, 5]
    assert 'ckpt-00000015 is damaged' in capfd.readouterr().err


def test_only_one_job_works_in_a_folder(run, capfd):
    (run / 'eval_dev').mkdir()
    with locks.JobLock(str(run / 'eval_dev'), 'evaler Dev'):
        assert evaluate(run) == 2
    assert f'{run}/eval_dev is in use by evaler Dev (pid {os.getpid()} ' in capfd.readouterr().err


def test_a_folder_holds_scores_of_one_kind(evaluated, tmp_path, capfd):
    run = shutil.copytree(evaluated, tmp_path / 'run')
    assert evaluate(run, '--set=input.batch_size=3') == 2
    assert capfd.readouterr().err == (
        f'evaler: {run}/eval_dev holds scores made with other params; this job has '
        'input.batch_size : 3. Use --folder=NAME for a folder of their own.\n'
    )


def test_what_a_run_was_trained_with_cannot_be_changed_for_scoring(evaluated, capfd):
    assert evaluate(evaluated, '--set=task.model_dim=32') == 2
    assert 'was trained with task.model_dim : 16 -> 32' in capfd.readouterr().err


def test_the_decoder_writes_every_example_once_in_order(run, data_folder):
    assert decode(run, '--once') == 0
    with open(run / 'decode_dev/decoded-00000020.jsonl', encoding='utf-8') as file:
        records = [json.loads(line) for line in file]
    sources = (data_folder / 'tiny/dev.src').read_text().split('\n')[:-1]
    targets = (data_folder / 'tiny/dev.tgt').read_text().split('\n')[:-1]
    assert [record['id'] for record in records] == list(range(13))
    assert [record['source'] for record in records] == sources
    assert [record['reference'] for record in records] == targets
    assert all(len(r['hypotheses']) == len(r['scores']) == 1 for r in records)
    (line,) = lines(run, 'decode_dev')
    assert line['step'] == 20 and line['examples'] == 13
    assert {'bleu', 'bleu/signature', 'chrf', 'chrf/signature'} <= line.keys()


def test_tensorboard_gets_scores_samples_and_pictures(run, monkeypatch):
    def Summaries(self, predictions, batch):
        probabilities = tf.nn.softmax(predictions.x)
        return NestedMap(attention=probabilities)

    monkeypatch.setattr(model.TransformerModel, 'Summaries', Summaries)
    assert decode(run, '--once') == 0
    reader = event_accumulator.EventAccumulator(str(run / 'decode_dev'))
    reader.Reload()
    assert reader.Scalars('bleu')[0].step == 20
    samples = reader.Tensors('samples')[0].tensor_proto.string_val[0].decode()
    assert samples.startswith('| source | reference | hypothesis | score |')
    assert samples.count('\n') == 1 + 8
    assert reader.Tensors('bleu/signature')[0].tensor_proto.string_val[0].startswith(b'nrefs:1')
    assert len([tag for tag in reader.Tags()['images'] if tag.startswith('attention/')]) == 4


def test_a_decoder_killed_before_its_commit_does_it_again(run, monkeypatch):
    with monkeypatch.context() as patch:

        def Killed(self, step, values):
            raise KeyboardInterrupt

        patch.setattr(metrics_log.MetricsLog, 'Append', Killed)
        assert decode(run, '--once', GREEDY) == 130
    decoded = run / 'decode_dev/decoded-00000020.jsonl'
    before = decoded.read_text()
    assert lines(run, 'decode_dev') == []
    assert decode(run, '--once', GREEDY) == 0
    assert decoded.read_text() == before
    assert [line['step'] for line in lines(run, 'decode_dev')] == [20]


def test_an_ensemble_of_one_model_twice_decodes_as_the_model(run):
    prefix = f'{run}/train/ckpt-00000020'
    assert decode(run, f'--checkpoint={prefix}') == 0
    assert decode(run, f'--checkpoint={prefix},{prefix}') == 0
    one, two = (
        [json.loads(line) for line in open(run / folder / 'decoded-00000020.jsonl')]
        for folder in ('decode_dev', 'decode_dev_ensemble_2')
    )
    for a, b in zip(one, two):
        assert a['hypotheses'] == b['hypotheses']
        np.testing.assert_allclose(a['scores'], b['scores'], atol=1e-4)


def test_ones_own_text_keeps_its_lines(run, tmp_path, capfd):
    own = tmp_path / 'own.txt'
    own.write_text('7\n\n123456\n42\n')
    out = tmp_path / 'out.txt'
    model = '--model=tiny_experiment.Digits'
    assert cli.Decoder([model, f'--logdir={run}', f'--input={own}', f'--output={out}']) == 0
    written = out.read_text().split('\n')
    assert len(written) == 5 and written[1] == written[4] == ''
    before = sorted(os.listdir(run))
    assert cli.Decoder([model, f'--logdir={run}', f'--input={own}']) == 0
    assert capfd.readouterr().out == out.read_text()
    assert sorted(os.listdir(run)) == before


def test_a_run_of_the_params_file_only_has_nothing_to_translate_with(run, capfd, tmp_path):
    shutil.rmtree(run / 'train')
    (tmp_path / 'own.txt').write_text('7\n')
    model = '--model=tiny_experiment.Digits'
    assert cli.Decoder([model, f'--logdir={run}', f'--input={tmp_path}/own.txt']) == 2
    assert f'{run}/train has 0 checkpoints' in capfd.readouterr().err


def test_records_are_committed_by_the_line_of_metrics(tmp_path, monkeypatch):
    """What is in the folder when the line is written: all of it."""
    seen = []
    append = metrics_log.MetricsLog.Append

    def Append(self, step, values):
        seen.append(sorted(os.listdir(tmp_path)))
        append(self, step, values)

    monkeypatch.setattr(metrics_log.MetricsLog, 'Append', Append)
    kept = score_folder.Results(
        str(tmp_path), rundir.RunDir(str(tmp_path / 'run')), task.EvalParams()
    )
    kept.Commit(
        3, None, score_folder.Pass({'bleu': 1.0}, [{'id': 0, 'hypotheses': ['x'], 'scores': [0]}])
    )
    assert 'decoded-00000003.jsonl' in seen[0] and 'metrics.jsonl' not in seen[0]
