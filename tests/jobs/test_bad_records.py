"""Runs whose data hold records that cannot be read."""

from __future__ import annotations

import os
import shutil

import pytest
from job_runs import assert_equal_checkpoints, evaluate, lines, train

from lingvo_lite.inputs import data_files

ALLOWED = '--set=input.max_bad_records=2'


@pytest.fixture
def damaged(data_folder, tmp_path, monkeypatch):
    """A data folder of its own, with two lines that are no UTF-8 in train, and one in dev."""
    folder = shutil.copytree(data_folder, tmp_path / 'data')
    for split, numbers in (('train', [17, 300]), ('dev', [4])):
        path = folder / 'tiny' / f'{split}.src'
        rows = path.read_bytes().split(b'\n')
        for number in numbers:
            rows[number] = b'\xff' + rows[number]
        path.write_bytes(b'\n'.join(rows))
    monkeypatch.setenv('LINGVO_LITE_DATA', str(folder))
    data_files.SetDataDir(None)
    return folder


def test_a_trainer_names_the_first_one_and_stops(damaged, tmp_path, capfd):
    run = tmp_path / 'run'
    assert train(run) == 2
    last = capfd.readouterr().err.strip().split('\n')[-1]
    assert 'train.src' in last and 'record' in last and 'byte' in last
    assert 'more than input.max_bad_records=0, so stopping' in last


def test_those_that_are_allowed_are_counted_and_stay_out_over_a_restart(damaged, tmp_path):
    whole, run = tmp_path / 'whole', tmp_path / 'run'
    assert train(whole, ALLOWED) == 0
    assert train(run, ALLOWED, '--set=task.train.max_steps=10') == 0
    assert train(run, ALLOWED) == 0
    assert_equal_checkpoints(run, whole, 20)
    assert lines(run) == lines(whole)
    assert lines(whole)[-1]['bad_records'] == 2


def test_an_evaler_counts_them_beside_the_score(damaged, tmp_path):
    run = tmp_path / 'run'
    assert train(run, ALLOWED, '--set=task.train.max_steps=5') == 0
    assert evaluate(run, ALLOWED) == 0
    (line,) = lines(run, 'eval_dev')
    assert line['bad_records'] == 1 and line['examples'] == 12


def test_data_that_change_between_two_starts_are_refused(data_folder, tmp_path, capfd, monkeypatch):
    folder = shutil.copytree(data_folder, tmp_path / 'data')
    monkeypatch.setenv('LINGVO_LITE_DATA', str(folder))
    run = tmp_path / 'run'
    assert train(run, '--set=task.train.max_steps=5') == 0
    with open(os.path.join(folder, 'tiny', 'train.src'), 'r+b') as file:
        file.write(b'7')
    assert train(run) == 2
    assert 'the data have changed' in capfd.readouterr().err
