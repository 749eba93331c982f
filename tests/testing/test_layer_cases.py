"""The lists of layers: each file's cases are found, under names of their own."""

from __future__ import annotations

import sys

from lingvo_lite.testing import layer_cases


def test_a_new_file_is_found(monkeypatch, tmp_path):
    """A wing registers nowhere."""
    name = 'lingvo_lite.testing.layer_cases.points'
    (tmp_path / 'points.py').write_text("CASES = ['PointNet']\n", encoding='utf-8')
    monkeypatch.setattr(layer_cases, '__path__', [*layer_cases.__path__, str(tmp_path)])
    try:
        assert layer_cases.AllCases() == [*layer_cases.CASES, 'PointNet']
    finally:
        sys.modules.pop(name)
        del layer_cases.points


def test_no_name_stands_twice():
    """`conformance.SubjectOf` finds a case by its name."""
    names = [case.name for case in layer_cases.CASES]
    assert len(set(names)) == len(names) > 50
