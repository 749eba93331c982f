"""What happens to a job from outside is said, whatever fails first."""

from __future__ import annotations

import shutil

import pytest
import tensorflow as tf
from job_runs import MODEL, evaluate, train

from lingvo_lite import cli
from lingvo_lite.jobs import training_loop
from lingvo_lite.jobs.faults import lost_resources
from lingvo_lite.jobs.reporting import step_metrics
from lingvo_lite.jobs.scoring import evaluation_pass
from lingvo_lite.runs import rundir

_ABORTED = tf.errors.InternalError(None, None, 'At\nnode X. Collective ops is aborted by: Y closed')
_CLOSED = tf.errors.UnavailableError(None, None, 'Connection reset\nby peer')


@pytest.mark.parametrize('error', [_ABORTED, _CLOSED])
def test_a_lost_connection_is_a_lost_worker_only_if_there_are_several(error):
    with pytest.raises(
        lost_resources.LostWorkerError, match=r'Another worker is gone.*\((Coll|Conn).* by'
    ):
        with lost_resources.Cluster(2):
            raise error
    with pytest.raises(type(error)):
        with lost_resources.Cluster(1):
            raise error


def test_other_errors_of_tensorflow_are_their_own():
    with pytest.raises(tf.errors.InvalidArgumentError):
        with lost_resources.Cluster(2):
            raise tf.errors.InvalidArgumentError(None, None, 'shapes')


def test_any_error_in_a_removed_directory_says_that_it_was_removed(tmp_path):
    run = rundir.RunDir(str(tmp_path / 'run'))
    with pytest.raises(KeyError):
        with lost_resources.LogDirectory(run, run.Create(run.train)):
            raise KeyError('x')
    shutil.rmtree(run.path)
    with pytest.raises(lost_resources.RemovedError, match='run/train was removed'):
        with lost_resources.LogDirectory(run, run.train):
            raise KeyError('x')


def test_a_worker_that_loses_another_ends_with_the_code_that_asks_for_a_new_start(
    tmp_path, monkeypatch, capfd
):
    def Lost(self, *_):
        raise lost_resources.LostWorkerError('Another worker is gone.')

    monkeypatch.setattr(training_loop.TrainingLoop, 'Run', Lost)
    assert train(tmp_path / 'run') == 138
    assert capfd.readouterr().err.endswith('trainer: Another worker is gone.\n')


def test_a_trainer_whose_log_directory_goes_ends(tmp_path, monkeypatch, capfd):
    run = tmp_path / 'run'
    add = step_metrics.Interval.Add

    def Add(self, result, batch):
        add(self, result, batch)
        if batch.index == 6:
            run.rename(tmp_path / 'gone')  # at once: its locks are still written to

    monkeypatch.setattr(step_metrics.Interval, 'Add', Add)
    assert train(run) == 1
    line = capfd.readouterr().err.strip().split('\n')[-1]
    assert line.startswith(f'trainer: {run}/train was removed, or its file system is gone: ')
    assert not run.exists()


def test_an_evaler_whose_log_directory_goes_ends(run, tmp_path, monkeypatch, capfd):
    def Run(self, *_):
        run.rename(tmp_path / 'gone')
        raise FileNotFoundError('whatever')

    monkeypatch.setattr(evaluation_pass.EvaluationPass, 'Run', Run)
    assert evaluate(run) == 1
    log = capfd.readouterr().err
    assert log.endswith('begins anew.\n') and f'evaler: {run}/eval_dev was removed' in log
    assert 'Traceback' not in log and not run.exists()


def test_a_trainer_on_a_full_disk_says_so_in_one_line(tmp_path, monkeypatch, capfd):
    def Append(self, step, values):
        raise OSError(28, 'No space left on device', self.path)

    monkeypatch.setattr('lingvo_lite.runs.metrics_log.MetricsLog.Append', Append)
    assert cli.Trainer([MODEL, f'--logdir={tmp_path}/run']) == 1
    line = capfd.readouterr().err.strip().split('\n')[-1]
    assert line == (
        f"trainer: [Errno 28] No space left on device: '{tmp_path}/run/train/metrics.jsonl'"
    )
