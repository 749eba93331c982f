"""Every public layer passes every check of testing/conformance.py."""

from __future__ import annotations

import pytest

from lingvo_lite.testing import conformance, layer_cases

# pytest brings together the tests of one place in these lists, so that a subject is built once and
# one is held at a time: those with steps come first.
_STEPPING = [case.name for case in layer_cases.CASES if case.steps]
_NAMES = [*_STEPPING, *(case.name for case in layer_cases.CASES if not case.steps)]


@pytest.mark.parametrize('name', _NAMES, scope='module')
@pytest.mark.parametrize('check', conformance.CHECKS, ids=lambda check: check.__name__)
def test_layer(check, name):
    check(conformance.SubjectOf(name))


@pytest.mark.parametrize('name', _NAMES, scope='module')
def test_two_replicas_equal_one(name, two_replicas):
    conformance.CheckReplicas(conformance.SubjectOf(name), two_replicas)


@pytest.mark.parametrize('name', _STEPPING, scope='module')
def test_steps_equal_whole_sequence(name):
    conformance.CheckSteps(conformance.SubjectOf(name))


def test_every_public_layer_is_in_the_list():
    assert layer_cases.MissingLayers() == []


@pytest.mark.parametrize('layer', ['norm.RmsNorm', 'speech.conformer.ConformerBlock'])
def test_a_layer_that_is_not_in_the_list_is_found(layer, monkeypatch):
    name = layer.rpartition('.')[2]
    kept = [case for case in layer_cases.CASES if case.params.cls.__name__ != name]
    monkeypatch.setattr(layer_cases, 'CASES', kept)
    assert layer_cases.MissingLayers() == [f'lingvo_lite.layers.{layer}']
