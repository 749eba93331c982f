"""The trainer: from the beginning to the end, and what comes between."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal

import numpy as np
from job_runs import assert_equal_checkpoints, lines, rewind, steps_of, train

from lingvo_lite.inputs import feed, pipeline
from lingvo_lite.jobs.reporting import step_metrics
from lingvo_lite.runs.checkpoints import tensors
from lingvo_lite.training.debugging import first_bad_layer

# Its search is the quickest to trace.
GREEDY = '--set=task.search.method=greedy'
LEAST = '--set=task.eval.best_mode=min'


def test_a_run_leaves_all_that_is_needed_to_read_it_back(finished):
    text = (finished / 'params.txt').read_text()
    assert "model : 'tiny_experiment.Digits'" in text
    assert 'auto' not in text
    table = (finished / 'variables.txt').read_text()
    assert 'encoder/layers_0/self_attention/qkv/w' in table and '16 x 48' in table
    assert table.rstrip().endswith('37 variables, 9,856 parameters.')
    assert json.loads((finished / 'command.json').read_text())[0]['versions']['tensorflow']
    assert json.loads((finished / 'train/FINISHED').read_text()) == {'step': 20}
    assert steps_of(finished) == [5, 10, 15, 20]
    found = lines(finished)
    assert [line['step'] for line in found] == [5, 10, 15, 20]
    assert found[-1]['loss'] < found[0]['loss']
    assert {'grad_norm', 'learning_rate', 'updates', 'skipped', 'log_pplx'} <= found[0].keys()


def test_the_first_lines_say_what_is_trained_on_what(tmp_path, capfd):
    assert train(tmp_path / 'run', '--set=task.train.max_steps=1') == 0
    log = capfd.readouterr().err
    assert '37 variables, 9,856 parameters.' in log
    assert '400 examples, about' in log and 'steps an epoch' in log
    assert 'precision float32 (set by task.train.precision)' in log
    assert 'input wait' in log and 'tokens/s' in log


def test_going_on_equals_never_having_stopped(finished, tmp_path):
    run = tmp_path / 'run'
    assert train(run, '--set=task.train.max_steps=10') == 0
    assert train(run) == 0
    assert_equal_checkpoints(run, finished, 20)
    assert lines(run) == lines(finished)


def test_a_killed_run_repeats_what_it_had_not_saved(run, finished):
    rewind(run, 10)
    with open(run / 'train/metrics.jsonl', 'a') as file:
        file.write('{"step": 23, "lo')  # torn
    assert train(run) == 0
    assert_equal_checkpoints(run, finished, 20)
    assert lines(run) == lines(finished)


def test_a_damaged_checkpoint_is_left_for_the_one_before_it(run, finished, capfd):
    rewind(run, 15)
    data = run / 'train/ckpt-00000015.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:1000])
    assert train(run) == 0
    log = capfd.readouterr().err
    assert 'ckpt-00000015 is damaged' in log and 'Going on from' in log and 'ckpt-00000010' in log
    assert_equal_checkpoints(run, finished, 20)


def test_old_checkpoints_go_unless_they_wait_for_their_score(tmp_path):
    one, all_of_them = tmp_path / 'one', tmp_path / 'all'
    assert train(one, '--set=task.train.save_max_to_keep=1') == 0
    assert steps_of(one) == [20]
    flags = ['--set=task.train.save_max_to_keep=1', '--set=task.eval.all_checkpoints=True']
    assert train(all_of_them, *flags) == 0
    assert steps_of(all_of_them) == [5, 10, 15, 20]


def test_a_finished_run_has_nothing_left_to_do(run, finished):
    assert train(run) == 0
    assert steps_of(run) == steps_of(finished)
    assert lines(run) == lines(finished)


def test_fixed_params_must_not_change(run, capfd):
    before = sorted(os.listdir(run))
    assert train(run, '--set=task.model_dim=32') == 2
    assert capfd.readouterr().err == (
        f'trainer: {run} holds a run of tiny_experiment.Digits with other params: '
        'task.model_dim 16 -> 32 (fixed for a run). Use a new --logdir, or take the change back.\n'
    )
    assert sorted(os.listdir(run)) == before


def test_free_params_may_change_and_the_run_says_from_where_on(run, capfd):
    assert train(run, '--set=task.train.max_steps=22') == 0
    assert 'from step 20 on, task.train.max_steps 20 -> 22' in capfd.readouterr().err
    assert 'task.train.max_steps : 20' in (run / 'params-00000000.txt').read_text()
    assert 'task.train.max_steps : 22' in (run / 'params-00000020.txt').read_text()
    assert 'task.train.max_steps : 22' in (run / 'params.txt').read_text()
    assert steps_of(run)[-1] == 22


def test_auto_precision_is_resolved_once_for_a_run(tmp_path):
    flags = ['--set=task.train.precision=auto', '--set=task.train.max_steps=1']
    run = tmp_path / 'run'
    assert train(run, '--set=task.train.precision=mixed_bfloat16', flags[1]) == 0
    # Another machine might choose otherwise; the run does not.
    assert train(run, *flags) == 0
    assert "task.train.precision : 'mixed_bfloat16'" in (run / 'params.txt').read_text()


def test_epochs_end_a_run_between_two_batches_of_data(tmp_path):
    run = tmp_path / 'run'
    assert train(run, '--set=task.train.max_epochs=1', '--set=input.tokens_per_batch=2000') == 0
    (last,) = steps_of(run)[-1:]
    state = tensors.Restore(os.path.join(run, f'train/ckpt-{last:08d}'), ['.input_state'])
    assert json.loads(state['.input_state'])['epoch'] == 1
    assert json.loads(state['.input_state'])['batch'] == 0
    assert (run / 'train/FINISHED').exists()


def test_evaluation_in_the_trainer_scores_each_save_and_keeps_the_best(tmp_path, capfd):
    run = tmp_path / 'run'
    flags = ['--set=task.eval.best_metric=decode_dev/chrf', '--set=task.eval.best_mode=max']
    assert train(run, '--eval=Dev', *flags, '--set=task.train.max_steps=10', GREEDY) == 0
    assert [line['step'] for line in lines(run, 'eval_dev')] == [5, 10]
    decoded = lines(run, 'decode_dev')
    assert [line['step'] for line in decoded] == [5, 10]
    assert decoded[0]['bleu/signature'].startswith('nrefs:1')
    best = json.loads((run / 'best/score.json').read_text())
    assert best['best'][0]['value'] == max(line['chrf'] for line in decoded)
    assert (run / f'best/ckpt-{best["best"][0]["step"]:08d}.index').exists()


def test_a_score_that_a_killed_trainer_owes_is_made_up_for(tmp_path):
    flags = ['--eval=Dev', '--set=task.train.max_steps=10', GREEDY]
    undisturbed = tmp_path / 'undisturbed'
    assert train(undisturbed, *flags) == 0
    killed = shutil.copytree(undisturbed, tmp_path / 'killed')
    rewind(killed, 5)
    for folder in ('eval_dev', 'decode_dev'):
        (killed / folder / 'metrics.jsonl').write_text('')  # killed before its first score
    assert train(killed, *flags) == 0
    for folder in ('eval_dev', 'decode_dev'):
        assert lines(killed, folder) == lines(undisturbed, folder)


def test_training_stops_when_the_score_no_longer_improves(tmp_path, capfd):
    run = tmp_path / 'run'
    # 'examples' never changes, so the first score stays the best.
    flags = ['--eval=Dev', '--set=task.eval.best_metric=eval_dev/examples', GREEDY, LEAST]
    assert train(run, *flags, '--set=task.train.early_stop_window=10') == 0
    assert steps_of(run)[-1] == 15
    assert 'was best at step 5 (13) and has not improved' in capfd.readouterr().err
    # It was no accident that it ended there: starting it again changes nothing.
    assert train(run, *flags, '--set=task.train.early_stop_window=10') == 0
    assert steps_of(run)[-1] == 15


def test_where_a_trainer_was_stopped_does_not_decide_what_is_scored(tmp_path, monkeypatch):
    run = tmp_path / 'run'
    flags = ['--eval=Dev', '--set=task.eval.best_metric=eval_dev/examples', GREEDY, LEAST]
    flags.append('--set=task.train.early_stop_window=10')
    add, count = step_metrics.Interval.Add, itertools.count(1)

    def Add(self, *args):
        if next(count) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return add(self, *args)

    monkeypatch.setattr(step_metrics.Interval, 'Add', Add)
    assert train(run, *flags) == 143
    monkeypatch.undo()
    assert steps_of(run) == [5, 7]
    assert train(run, *flags) == 0
    assert [line['step'] for line in lines(run, 'eval_dev')] == [5, 10, 15]


def test_a_training_that_diverges_stops_and_says_where(tmp_path, capfd):
    run = tmp_path / 'run'
    flags = ['--set=task.train.learning_rate=1e30', '--set=task.train.max_skipped_in_a_row=3']
    assert train(run, *flags) == 1
    message = capfd.readouterr().err.strip().split('\n')[-1]
    assert message.startswith('trainer: Step ') and 'First bad layer: ' in message, message
    (saved,) = [name for name in os.listdir(run / 'train') if name.startswith('bad_batch-')]
    assert message.endswith(f'Batch saved to {run}/train/{saved}.')
    (batch,) = first_bad_layer.LoadBatch(os.path.join(run, 'train', saved))
    assert batch.source.ids.shape == batch.source.paddings.shape
    assert not (run / 'train/FINISHED').exists()


def test_asked_to_stop_it_saves_and_ends(finished, tmp_path, monkeypatch):
    run = tmp_path / 'run'
    with monkeypatch.context() as patch:
        add = step_metrics.Interval.Add

        def Add(self, result, batch):
            add(self, result, batch)
            if batch.index == 6:
                os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(step_metrics.Interval, 'Add', Add)
        assert train(run) == 143
    assert steps_of(run) == [5, 7]
    assert not (run / 'train/FINISHED').exists()
    assert train(run) == 0
    assert_equal_checkpoints(run, finished, 20)


def test_what_was_learnt_is_saved_when_the_input_fails(tmp_path, monkeypatch, capfd):
    run = tmp_path / 'run'
    make = pipeline.BaseInput.MakeRows

    def Fail(self, ids, plan, train):
        if train and plan.index == 7:
            raise feed.InputError('train.src:99: nobody can read this.')
        return make(self, ids, plan, train)

    monkeypatch.setattr(pipeline.BaseInput, 'MakeRows', Fail)
    assert train(run) == 1
    log = capfd.readouterr().err
    assert log.endswith('trainer: train.src:99: nobody can read this.\n')
    assert steps_of(run) == [5, 7]


def test_other_data_under_the_same_name_are_refused(run, tmp_path, data_folder, capfd):
    rewind(run, 10)
    text = (data_folder / 'tiny/train.src').read_text().split('\n')
    other = tmp_path / 'data/tiny'
    other.mkdir(parents=True)
    (other / 'train.src').write_text('\n'.join(['1234567', *text[1:]]))
    (other / 'train.tgt').write_text((data_folder / 'tiny/train.tgt').read_text())
    assert train(run, f'--data_dir={tmp_path}/data') == 2
    error = capfd.readouterr().err.strip().split('\n')[-1]
    assert 'the data have changed since the position was saved' in error


def test_a_run_can_start_from_the_weights_of_another(finished, tmp_path):
    run = tmp_path / 'run'
    start = f'--set=task.train.init_from={finished}'
    assert (
        train(run, start, '--set=task.train.max_steps=1', '--set=task.train.learning_rate=0.0') == 0
    )
    key = 'encoder/layers_0/self_attention/qkv/w'
    # A moving average is what is best to start from.
    theirs = tensors.Restore(os.path.join(finished, 'train/ckpt-00000020'), [f'{key}/.ema'])
    mine = tensors.Restore(os.path.join(run, 'train/ckpt-00000001'), [key, f'{key}/.ema'])
    np.testing.assert_array_equal(mine[key], theirs[f'{key}/.ema'])
    np.testing.assert_allclose(mine[f'{key}/.ema'], theirs[f'{key}/.ema'], rtol=1e-6)


def test_steps_can_be_profiled(tmp_path):
    run = tmp_path / 'run'
    assert train(run, '--profile_steps=2,3', '--set=task.train.max_steps=4') == 0
    assert list((run / 'train/plugins/profile').glob('*/*.xplane.pb'))


def test_two_replicas_train_like_one(mirrored, tmp_path):
    """Without dropout, whose draws differ: the same batches, the same updates."""
    flags = ['--set=task.train.max_steps=3', '--set=task.input_dropout.rate=0']
    for stack in ('encoder', 'decoder'):
        for name in ('residual', 'atten', 'relu'):
            flags.append(f'--set=task.{stack}.{name}_dropout_prob=0')
    runs = [tmp_path / 'one', tmp_path / 'two']
    assert train(runs[0], *flags) == 0
    assert train(runs[1], mirrored, *flags) == 0
    one, two = (tensors.Restore(os.path.join(run, 'train/ckpt-00000003')) for run in runs)
    assert one['.input_state'] == two['.input_state']
    key = 'decoder/layers_0/cross_attention/key_value/w'
    np.testing.assert_allclose(one[key], two[key], atol=1e-5)
