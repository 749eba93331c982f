"""A step computed op by op says what the compiled one says, and more."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from lingvo_lite.training.debugging import inspection


def _Params(tiny, **settings):
    return tiny.Params(**{'by_row': True, 'train.clip_gradient_norm_to_value': 0.5, **settings})


def test_its_numbers_are_those_of_the_step(tiny):
    p = _Params(tiny, **{'train.accumulation': 2, 'train.l2_regularizer_weight': 0.1})
    learner, batch = tiny.Learner(p), tiny.Batch()
    seen = inspection.Inspect(learner, [batch], 0)
    done = learner.TrainStep([batch]).Read()
    assert not tf.config.functions_run_eagerly()
    for name in ('loss', 'grad_norm', 'regularization'):
        np.testing.assert_allclose(seen.numbers[name], done[name], rtol=1e-5)
    assert seen.numbers.terms.keys() == {'token', 'row'}
    np.testing.assert_allclose(seen.numbers.terms.row, done.terms.row, rtol=1e-5)
    assert seen.report.finding.kind == 'none' and not seen.report.layers


def test_replicas_are_taken_together(tiny, two_replicas):
    batches = [tiny.Batch(seed=1), tiny.Batch(seed=2)]
    both = inspection.Inspect(tiny.Learner(_Params(tiny), two_replicas), batches, 0)
    one = inspection.Inspect(tiny.Learner(_Params(tiny)), [tiny.Join(batches)], 0)
    np.testing.assert_allclose(both.numbers.loss, one.numbers.loss, rtol=1e-5)
    tiny.AssertClose(both.gradients, one.gradients)
    for mine, theirs in zip(both.layers, one.layers):
        assert mine.path == theirs.path and mine.output.calls == 2 * theirs.output.calls
        np.testing.assert_allclose(mine.output.rms, theirs.output.rms, rtol=1e-5)
        np.testing.assert_allclose(mine.gradient.norm, theirs.gradient.norm, rtol=1e-4)


def test_statistics_are_those_of_the_finite_values():
    found = inspection.Statistics()
    assert found.Add(tf.constant([[1.0, -3.0]])) and np.isclose(found.norm, np.sqrt(10))
    assert not found.Add(tf.constant([np.nan, np.inf, 5.0], tf.float16))
    assert (found.calls, found.shape, found.bad) == (2, (3,), 2)
    assert (found.min, found.max, found.mean) == (-3.0, 5.0, 1.0)
    assert np.isclose(found.rms, np.sqrt(35 / 3)) and np.isnan(found.norm)


def test_it_stops_in_the_layer_that_goes_bad(tiny):
    learner, batch, stops = tiny.Learner(_Params(tiny)), tiny.Batch(), []
    learner.task.second.vars.b.assign([np.inf])
    seen = inspection.Inspect(
        learner, [batch], 0, lambda path, outputs: stops.append((path, outputs.shape[-1]))
    )
    assert stops == [('second', 1)]
    assert [(each.path, each.output.bad > 0) for each in seen.layers] == [
        ('first', False),
        ('second', True),
    ]
    assert seen.report.finding == ('variable', 'second/b')
    assert seen.report.layers == ('second',)
