"""lingvo_lite tune-batch: the most rows are found, and the advice fits every bucket."""

from __future__ import annotations

import pytest

from lingvo_lite import cli
from lingvo_lite.jobs.devices import batch_advice, trial_process, tune_batch


@pytest.mark.parametrize('rows, limit', [(37, 1000), (900, 1000), (5, 150), (1, 100)])
def test_the_most_rows_are_found_without_going_beyond_the_limit(rows, limit):
    asked = []

    def Measure(n):
        asked.append(n)
        return 100 + n  # bytes

    found = tune_batch.LargestRows(Measure, rows, 5000, limit)
    assert 0.93 * (limit - 100) <= found <= limit - 100
    # Two measurements say what more rows would need; only what was tried before them may be over.
    assert all(100 + n <= limit for n in asked[2:] if rows < limit - 100)


def test_the_most_rows_are_found_where_only_failing_tells():
    for fits in (0, 1, 63, 64, 1000):
        asked = []

        def Measure(n, fits=fits, asked=asked):
            asked.append(n)
            return 1 if n <= fits else None

        found = tune_batch.LargestRows(Measure, 40, 3000, None)
        assert 0.95 * fits <= found <= fits and len(asked) < 15
    assert tune_batch.LargestRows(lambda n: 1, 40, 3000, None) == 3000


def test_the_advice_fits_every_bucket():
    def Tuned(rows, *padded, is_all=False):
        return batch_advice.Tuned(trial_process.Bucket(padded, 4), rows, 10, 0.1, is_all)

    found = [Tuned(1000, 8, 8), Tuned(100, 40, 40), Tuned(3000, 4, 4, is_all=True)]
    both = {'tokens_per_batch': 600, 'batch_size': 8}
    assert batch_advice.Advice(both, found) == (
        '--set=input.tokens_per_batch=7600\n--set=input.batch_size=95\n'
    )
    assert 'Not one row of bucket 90 x 8' in batch_advice.Advice(both, [*found, Tuned(0, 90, 8)])
    assert 'memory is no limit' in batch_advice.Advice(both, found[-1:])
    # A limit below the longest row would take it out of the training.
    tokens = {'tokens_per_batch': 600}
    assert batch_advice.Advice(tokens, [Tuned(1, 40, 40)]) == '--set=input.tokens_per_batch=80\n'
    mixed = {'inputs[0].tokens_per_batch': 600, 'inputs[1].batch_size': 8}
    assert batch_advice.Advice(mixed, found[:1]) == (
        '--set=input.inputs[0].tokens_per_batch=15200\n--set=input.inputs[1].batch_size=950\n'
    )


def test_limits_that_cannot_be_are_refused(capfd):
    assert cli.Main(['tune-batch', 'tiny_experiment.Digits', '--limit=0']) == 2
    assert cli.Main(['tune-batch', 'tiny_experiment.Digits', '--buckets=0']) == 2
    assert '--buckets must be at least 1' in capfd.readouterr().err


@pytest.mark.slow
def test_tune_batch_prints_what_fits(run_python):
    flags = ['tiny_experiment.Digits', '--limit=1.2', '--buckets=1', '--set=task.model_dim=256']
    flags += ['--set=task.encoder.hidden_dim=8192', '--set=task.decoder.hidden_dim=8192']
    done = run_python('-m', 'lingvo_lite.cli', 'tune-batch', *flags)
    assert done.returncode == 0, done.stderr
    *_, row, advice = done.stdout.strip().split('\n')
    assert row.startswith('8 x ') and 'GB' in row and '(all)' not in row
    tokens = int(advice.removeprefix('--set=input.tokens_per_batch='))
    assert 24 <= tokens < 9600
