"""Chaos sees what is lost: each defect is planted into files, and has to be found."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lingvo_lite.tools.chaos import campaign, checks


def write_lines(path, records, mode='w'):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, mode) as file:
        file.writelines(json.dumps(record) + '\n' for record in records)


def step_line(step, loss=None, **more):
    base = {'step': step, 'loss': loss or 1.0 / step, 'grad_norm': 2.0, 'updates': step}
    return {**base, 'skipped': 0, 'epoch': 0, 'steps_per_second': os.getpid() % 7, **more}


def records(count=3):
    return [{'id': n, 'hypotheses': [f'h{n}']} for n in range(count)]


@pytest.fixture
def whole(tmp_path):
    """What a run leaves that saved at 10 and 20 and reported every 5 steps."""
    run = tmp_path / 'whole'
    write_lines(run / 'train/metrics.jsonl', [step_line(s) for s in (5, 10, 15, 20)])
    (run / 'train/FINISHED').write_text('{}')
    for folder in ('eval_dev', 'decode_dev'):
        scores = [{'step': s, 'loss': 3.0 / s, 'seconds': 0.1} for s in (20, 10)]
        write_lines(run / folder / 'metrics.jsonl', scores)
    (run / 'best').mkdir()
    (run / 'best/score.json').write_text('{"best": [{"step": 20}]}')
    for step in (10, 20):
        write_lines(run / f'decode_dev/decoded-{step:08d}.jsonl', records())
        for ending in ('index', 'data-00000-of-00001'):
            (run / f'train/ckpt-{step:08d}.{ending}').write_bytes(bytes([step, 1, 2]))
    return run


@pytest.fixture
def run(whole, tmp_path):
    """A run that equals it, but for what the clock decides."""
    copy = shutil.copytree(whole, tmp_path / 'run')
    for path in copy.glob('*/metrics.jsonl'):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        timed = ('seconds', 'steps_per_second')
        slower = [{k: v + 1 if k in timed else v for k, v in line.items()} for line in lines]
        write_lines(path, slower)
    return copy


def lost(whole, run, **kwargs):
    """(number, texts) of what is lost when the run is over."""
    found = checks.Expected(str(whole)).LossesAtEnd(str(run), kept_all=True, **kwargs)
    return sum(loss.count for loss in found), '; '.join(loss.text for loss in found)


def drop_line(path, number):
    lines = path.read_text().splitlines(keepends=True)
    del lines[number]
    path.write_text(''.join(lines))


def test_a_run_that_lost_nothing_is_clean(whole, run):
    assert lost(whole, run) == (0, '')


@pytest.mark.parametrize('folder', ['train', 'eval_dev', 'decode_dev'])
@pytest.mark.parametrize('number', [0, 1])
def test_a_line_of_metrics_that_is_missing_is_found(whole, run, folder, number):
    drop_line(run / folder / 'metrics.jsonl', number)
    count, text = lost(whole, run)
    assert count >= 1 and f'{folder}/metrics.jsonl: the line of step' in text


@pytest.mark.parametrize('folder', ['train', 'eval_dev', 'decode_dev'])
def test_a_line_of_metrics_that_is_there_twice_is_found(whole, run, folder):
    path = run / folder / 'metrics.jsonl'
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[-1])
    count, text = lost(whole, run)
    assert count >= 1 and 'step' in text and ', 2 times' in text


@pytest.mark.parametrize('folder', ['train', 'eval_dev'])
def test_a_number_that_differs_is_found(whole, run, folder):
    path = run / folder / 'metrics.jsonl'
    path.write_text(path.read_text().replace('"loss": 0.', '"loss": 1.'))
    assert 'differs' in lost(whole, run)[1]


def test_a_checkpoint_with_one_other_bit_is_found_and_one_that_is_missing(whole, run):
    (run / 'train/ckpt-00000020.data-00000-of-00001').write_bytes(bytes([20, 1, 3]))
    assert lost(whole, run) == (1, 'train: the checkpoint of step 20 differs')
    (run / 'train/ckpt-00000020.index').unlink()
    assert lost(whole, run) == (1, 'train: the checkpoint of step 20 is missing')


def test_examples_that_are_missing_double_or_different_are_counted(whole, run):
    path = run / 'decode_dev/decoded-00000010.jsonl'
    write_lines(path, records(1))
    assert lost(whole, run) == (2, 'decode_dev/decoded-00000010.jsonl: examples are missing')
    write_lines(path, records() + records(2))
    assert lost(whole, run)[0] == 2
    write_lines(path, [{**record, 'hypotheses': []} for record in records()])
    assert lost(whole, run)[0] == 3
    path.unlink()
    assert lost(whole, run) == (1, 'decode_dev: the records of step 10 is missing')


def test_what_was_left_behind_or_not_finished_is_found(whole, run):
    (run / 'train/.tmp-ckpt-00000010-1-2').mkdir()
    (run / 'train/FINISHED').unlink()
    (run / 'best/score.json').write_text('{"best": [{"step": 10}]}')
    count, text = lost(whole, run)
    assert count == 3 and 'left behind' in text and 'FINISHED' in text and 'best/' in text


def test_of_a_run_that_kept_few_only_what_exists_must_be_scored(whole, run):
    for path in run.glob('train/ckpt-00000010.*'):
        path.unlink()
    drop_line(run / 'eval_dev/metrics.jsonl', 1)
    expected = checks.Expected(str(whole))
    assert expected.LossesAtEnd(str(run), kept_all=False) == []
    drop_line(run / 'eval_dev/metrics.jsonl', 0)
    (loss,) = expected.LossesAtEnd(str(run), kept_all=False)
    assert loss.text == 'eval_dev/metrics.jsonl: the line of step 20 is missing'


def test_what_was_killed_may_be_behind_but_not_wrong(whole, run):
    path = run / 'train/metrics.jsonl'
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[:2]) + '{"step": 15, "lo')
    expected = checks.Expected(str(whole))
    assert expected.Losses(str(run)) == []
    path.write_text(path.read_text().split('\n')[1] + '\n')
    assert expected.Losses(str(run)) == [], 'the first lines may be missing only at the end'
    assert lost(whole, run)[0] == 3


def test_the_two_parts_of_an_interval_that_was_asked_to_stop_in_make_the_whole(whole, run):
    parts = [step_line(5), step_line(8, loss=0.1 + 0.04), step_line(10, loss=0.1 - 0.06)]
    rest = [step_line(s) for s in (15, 20)]
    write_lines(run / 'train/metrics.jsonl', parts + rest)
    assert lost(whole, run, asked=[8]) == (0, '')
    assert lost(whole, run)[0] > 0
    parts[1]['loss'] += 0.001
    write_lines(run / 'train/metrics.jsonl', parts + rest)
    assert 'step 10 differs' in lost(whole, run, asked=[8])[1]


def test_the_table_is_clean_only_if_all_was_recovered_and_nothing_lost():
    table = campaign.Table()
    table.injected = [
        campaign.Injected('kill -9 trainer, step', 'mt', is_recovered=True),
        campaign.Injected('kill -9 trainer, step', 'lm', is_recovered=True),
        campaign.Injected('disk full', 'lm', is_recovered=True),
    ]
    assert table.IsClean(3) and not table.IsClean(4)
    row = next(line for line in table.Format().split('\n') if line.startswith('kill -9'))
    assert row.split()[-5:] == ['2', '2', '0', 'lm,', 'mt']
    table.injected[2].lost = 1
    assert not table.IsClean(3)
    table.injected[2].lost = 0
    table.injected[1].is_recovered = False
    assert not table.IsClean(3)
