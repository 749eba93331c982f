"""replay: a step of a run, looked at once more."""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest
from job_runs import lines, train

from lingvo_lite import cli
from lingvo_lite.jobs.config import job_params
from lingvo_lite.runs import rundir
from lingvo_lite.training.debugging import first_bad_layer

EACH_STEP = '--set=task.train.summary_interval_steps=1'
IMPORT = '--import=tiny_experiment'
SOURCE = job_params.Source()


@pytest.fixture(scope='module')
def noted(tmp_path_factory, data_folder):
    """A run of 7 steps with a checkpoint at 5 and a line for each step."""
    run = tmp_path_factory.mktemp('noted') / 'run'
    assert train(run, EACH_STEP, '--set=task.train.max_steps=7') == 0
    return run


def again(run, step, *flags):
    """Exit code of a replay."""
    return cli.Main(['replay', str(run), str(step), IMPORT, *flags])


def number(text, name):
    """The number behind a name at the beginning of a line."""
    return float(re.search(rf'^{name}\s+(\S+)', text, re.M)[1])


@pytest.mark.parametrize('step', [6, 3])  # behind a checkpoint; before the first one
def test_the_loss_is_the_one_that_the_run_reported(noted, step, capfd):
    before = sorted(os.listdir(noted / 'train'))
    assert again(noted, step) == 0
    out, log = capfd.readouterr()
    line = lines(noted)[step - 1]
    assert line['step'] == step
    np.testing.assert_allclose(number(out, 'loss'), line['loss'], rtol=1e-5)
    np.testing.assert_allclose(number(out, 'grad norm'), line['grad_norm'], rtol=1e-4)
    assert f'(metrics.jsonl: {line["loss"]:.6g})' in out
    start = 'the checkpoint of step 5, 0' if step == 6 else 'the beginning, 2'
    assert f'From {start} steps to go to step {step}.' in log
    assert re.search(r'^encoder/layers_0/feedforward/up +1 +\d+ x \d+ x 32 ', out, re.M)
    assert re.search(r'^embedding/table +\d', out, re.M)
    assert out.endswith('All layers, the loss and the gradients are finite.\n')
    assert sorted(os.listdir(noted / 'train')) == before  # nothing is written into the run


def test_the_step_that_a_run_stopped_at_is_replayed_with_its_batch(tmp_path, capfd, monkeypatch):
    run = tmp_path / 'run'
    flags = ['--set=task.train.learning_rate=1e30', '--set=task.train.on_non_finite=stop']
    assert train(run, EACH_STEP, *flags) == 1
    message = capfd.readouterr().err.strip().split('\n')[-1]
    step, cause = re.search(r'Step (\d+): .*?(First bad layer: \S+\.)', message).groups()
    saved = first_bad_layer.BatchFile(str(run / 'train'), int(step))
    (batch,) = first_bad_layer.LoadBatch(saved)
    ids = batch.id[batch.id >= 0]
    # Another batch in its place is the one that is used.
    batch.id = np.full_like(batch.id, 7)
    first_bad_layer.SaveBatch(saved, [batch])
    stops = []
    monkeypatch.setattr('sys.breakpointhook', lambda: stops.append('here'))
    assert again(run, step, '--pdb') == 0
    out, log = capfd.readouterr()
    assert f'With the batch in {saved}.' in log and len(ids) > 1
    assert re.search(r'^examples +7, 7,', out, re.M)
    assert out.endswith(cause + '\n')
    assert stops == ['here'] and cause.split(': ')[1].rstrip('.') in log


def test_the_parts_of_all_workers_are_one_batch(noted, tmp_path, capfd, mirrored):
    run = shutil.copytree(noted, tmp_path / 'run')
    params = job_params.ForReplay(rundir.RunDir(str(run)), SOURCE)
    inputs = job_params.BuildInput(params.input, train=True)
    with inputs.Batches(replicas=2) as feed:
        parts = next(feed).replicas
    for worker, part in enumerate(parts):  # two workers with one replica each
        path = first_bad_layer.BatchFile(str(run / 'train'), 1, worker)
        first_bad_layer.SaveBatch(path, [part])
    assert again(run, 1) == 2
    assert 'hold the batches of 2 replicas' in capfd.readouterr().err
    assert again(run, 1, mirrored, '--replicas=2') == 0
    out, log = capfd.readouterr()
    assert 'With the batch in' in log
    ids = np.concatenate([part.id[part.id >= 0] for part in parts])
    shown = ', '.join(map(str, ids[:8]))
    assert f'examples  {shown} and {len(ids) - 8} more\n' in out


def test_a_step_before_the_first_checkpoint_begins_with_init_from(noted, tmp_path, capfd):
    run = tmp_path / 'run'
    flags = [EACH_STEP, f'--set=task.train.init_from={noted}', '--set=task.train.max_steps=2']
    assert train(run, *flags) == 0
    assert again(run, 1) == 0
    out, _ = capfd.readouterr()
    np.testing.assert_allclose(number(out, 'loss'), lines(run)[0]['loss'], rtol=1e-5)
    assert abs(lines(run)[0]['loss'] - lines(noted)[0]['loss']) > 1e-3  # it is not the beginning


def test_the_debugger_stops_at_the_end_of_a_sound_step(noted, capfd, monkeypatch):
    stops = []
    monkeypatch.setattr('sys.breakpointhook', lambda: stops.append('here'))
    assert again(noted, 1, '--pdb') == 0
    assert stops == ['here'] and 'the outputs of all layers are finite' in capfd.readouterr().err


def test_mistakes_are_told_in_one_line(noted, tmp_path, capfd):
    for argv, message in [
        ((noted, 0), 'steps count from 1, got 0'),
        ((tmp_path / 'none', 1), 'holds no run'),
        ((noted, 'x'), "invalid int >= 0 value: 'x'"),
    ]:
        assert again(*argv) == 2
        error = capfd.readouterr().err.strip().split('\n')[-1]
        assert error.startswith('lingvo_lite: ') and message in error


def test_a_run_does_not_choose_what_is_imported(noted, tmp_path):
    """Modules come from --import and from registered families, never from params.txt."""
    (tmp_path / 'params.txt').write_text(
        (noted / 'params.txt').read_text().replace('tiny_experiment.Digits', 'antigravity.Digits')
    )
    import sys

    job_params.ForReplay(rundir.RunDir(str(tmp_path)), SOURCE)
    assert 'antigravity' not in sys.modules
