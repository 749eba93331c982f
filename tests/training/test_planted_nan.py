"""A NaN in a layer of a real task is found, wherever it is."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import registry
from lingvo_lite.inputs import data_files
from lingvo_lite.testing import fake_data
from lingvo_lite.training import learner as learner_lib
from lingvo_lite.training.debugging import first_bad_layer, inspection

NAMES = ('asr.LibrispeechMini', 'mt.NumbersEnDe')


class Case:
    """A learner of Tiny() with a batch, and the layers that a step goes through."""

    def __init__(self, name, folder):
        cls = registry.Get(name)
        p = cls().Tiny()
        p.train.precision = 'float32'
        with fake_data.Write(cls, folder)['Train'].Instantiate().Batches() as feed:
            # Few rows: what takes time is the number of ops.
            self.batches = [next(feed).replicas[0].Transform(lambda value: value[:3])]
        self.learner = learner_lib.Learner(p.Instantiate(), tf.distribute.get_strategy())
        seen = inspection.Inspect(self.learner, self.batches, 0)
        assert seen.report.finding.kind == 'none'
        with_gradient = [each.path for each in seen.layers if each.gradient.calls]
        once = {each.path for each in seen.layers if each.output.calls == 1}
        # Layers without parts that are called once, in forward order.
        self.leaves = [
            path
            for path in with_gradient
            if path in once and not any(other.startswith(path + '/') for other in with_gradient)
        ]

    def Layer(self, path):
        layer = self.learner.task
        for part in path.split('/'):
            layer = layer._children[part]
        return layer


@pytest.fixture(scope='module', params=NAMES)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('LINGVO_LITE_DATA', raising=False)
        patch.setenv('LINGVO_LITE_CACHE', str(folder))
        data_files.SetDataDir(str(folder))
        yield Case(request.param, folder)
        data_files.SetDataDir(None)


@contextlib.contextmanager
def planted(layer, spoil):
    """The layer returns spoil(its output)."""
    own = type(layer)

    class Planted(own):
        def FProp(self, *args, **kwargs):
            return tf.nest.map_structure(spoil, super().FProp(*args, **kwargs))

    object.__setattr__(layer, '__class__', Planted)
    try:
        yield
    finally:
        object.__setattr__(layer, '__class__', own)


def nan_output(y):
    """y with a nan in one place."""
    if not (tf.is_tensor(y) and y.dtype.is_floating):
        return y
    flat = tf.reshape(y, [-1])
    return tf.reshape(tf.concat([flat[:1] * np.nan, flat[1:]], axis=0), tf.shape(y))


@tf.custom_gradient
def nan_gradient(y):
    """y, and nan where its gradient should be."""
    return tf.identity(y), lambda upstream: upstream * np.nan


def test_the_layer_with_the_nan_is_named(case):
    """In three layers: the first, one in the middle, the last."""
    for path in (case.leaves[0], case.leaves[len(case.leaves) // 2], case.leaves[-1]):
        with planted(case.Layer(path), nan_output):
            seen = inspection.Inspect(case.learner, case.batches, 0)
        assert not np.isfinite(seen.numbers.loss), path
        assert seen.report.finding == ('output', path)


def test_the_layer_with_the_nan_in_its_gradient_is_named(case):
    path = case.leaves[len(case.leaves) // 2]
    with planted(case.Layer(path), nan_gradient):
        seen = inspection.Inspect(case.learner, case.batches, 0)
    assert np.isfinite(seen.numbers.loss)
    assert seen.report.finding == ('gradient', path)


@pytest.mark.slow
def test_the_trainers_own_search_agrees(case):
    """Compiled, as the trainer runs it when it stops."""
    path = case.leaves[-2]
    with planted(case.Layer(path), nan_output):
        found = first_bad_layer.Find(case.learner, case.batches, 0)
    assert found == ('output', path)
