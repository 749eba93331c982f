"""The numbers between two lines of metrics."""

from __future__ import annotations

import math
import types

import pytest

from lingvo_lite.jobs.reporting import step_metrics
from lingvo_lite.nested_map import NestedMap


def step(loss, correct=(0.5, 2.0), finite=True, **more):
    numbers = NestedMap(
        loss=loss, terms=NestedMap(loss=loss), weights=NestedMap(loss=1.0), grad_norm=loss,
        metrics=NestedMap(correct=correct), learning_rate=0.1, finite=finite, updates=7, skipped=1,
        **more,
    )  # fmt: skip
    return types.SimpleNamespace(Read=lambda: numbers)


def batch(tokens=100, wait_s=0.0, num_bad=0):
    return types.SimpleNamespace(
        num_tokens=tokens, num_examples=3, num_bad=num_bad, wait_s=wait_s, epoch=2
    )


def summary(steps, batches=None):
    numbers = step_metrics.Interval()
    for each, fed in zip(steps, batches or [batch()] * len(steps)):
        numbers.Add(each, fed)
    return numbers.Summary()


def test_losses_are_averaged_over_steps_and_metrics_by_weight():
    values = summary([step(1.0, (1.0, 1.0)), step(3.0, (0.0, 3.0))])
    assert values['loss'] == 2.0
    assert values['correct'] == 0.25
    assert (values['updates'], values['skipped'], values['epoch']) == (7, 1, 2)


def test_steps_that_were_skipped_do_not_spoil_the_mean():
    assert summary([step(1.0), step(math.nan, (math.nan, 1.0), finite=False)])['loss'] == 1.0
    assert math.isnan(summary([step(math.nan, (math.nan, 1.0), finite=False)])['loss'])


def test_the_wait_for_input_is_a_mean_and_a_maximum():
    values = summary([step(1.0)] * 2, [batch(wait_s=0.002), batch(wait_s=0.004)])
    assert values['input_wait_ms'] == pytest.approx(3.0)
    assert values['input_wait_ms_max'] == pytest.approx(4.0)


def test_nothing_is_read_from_the_device_before_the_summary():
    def Read():
        raise AssertionError('a step was read')

    step_metrics.Interval().Add(types.SimpleNamespace(Read=Read), batch())


def test_time_spent_on_evaluation_is_no_part_of_the_speed(monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(step_metrics.time, 'perf_counter', lambda: next(clock))
    numbers = step_metrics.Interval()
    numbers.Add(step(1.0), batch(tokens=40))
    numbers.Pause(8.0)
    values = numbers.Summary()
    assert values['steps_per_second'] == 0.5
    assert values['tokens_per_second'] == 20.0


def test_the_line_for_people(monkeypatch):
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(step_metrics.time, 'perf_counter', lambda: next(clock))
    numbers = step_metrics.Interval()
    numbers.Add(step(1.25, loss_scale=1024.0), batch(tokens=40, wait_s=0.5))
    assert step_metrics.Line(10, 110, numbers.Summary()) == (
        'step 10/110  loss 1.2500  grad norm 1.25  lr 0.1  loss scale 1024  1 skipped  '
        '0.50 steps/s  20 tokens/s  input wait 500.0 ms (25%)  3 min 20 s left'
    )


def test_bad_records_are_shown_where_there_are_some():
    values = summary([step(1.0)] * 2, [batch(), batch(num_bad=1500)])
    assert values['bad_records'] == 1500 and ' 1,500 bad records ' in step_metrics.Line(
        2, 0, values
    )
    assert 'bad_records' not in summary([step(1.0)])
