"""The map is that of the sources, and shows what there is to see."""

from __future__ import annotations

import pytest

from lingvo_lite.tools import house, house_map

SMALL = {
    'lingvo_lite.__init__': '"""All."""',
    'lingvo_lite.registry': '"""Names."""',
    'lingvo_lite.step': '"""Steps.\n\nMore of them."""\nfrom lingvo_lite import registry',
    'lingvo_lite.layers.__init__': '"""Layers."""\nfrom lingvo_lite import step',
    'lingvo_lite.layers.points.__init__': '"""Clouds."""\nfrom lingvo_lite.layers import x',
    'lingvo_lite.tasks.__init__': '"""Families."""',
    'lingvo_lite.tasks.mt.__init__': '"""Translation."""',
    'lingvo_lite.tasks.mt.model': 'from lingvo_lite import layers, registry\nfrom . import x',
    'lingvo_lite.testing.__init__': '"""For tests."""\nfrom lingvo_lite.tasks.mt import model',
}
EMPTY = f'# House\n\n{house_map.BEGIN}\nold\n{house_map.END}\n\nText.\n'


def test_the_map_is_up_to_date(capsys):
    """If not: python -m lingvo_lite.tools.house_map."""
    assert house_map.Main(['--check']) == 0, capsys.readouterr().err


def test_a_small_house():
    before, picture, table = house_map.Fill(EMPTY, SMALL).split('```')
    assert before == f'# House\n\n{house_map.BEGIN}\n'
    assert picture.split('\n') == [
        'mermaid',
        'flowchart TB',
        '  subgraph floor5["5: models and experiments"]',
        '    tasks["<b>tasks/</b><br/>mt"]',
        '  end',
        '  subgraph floor2["2: layers"]',
        '    layers["<b>step.py layers/</b><br/>points"]',
        '  end',
        '  subgraph floor1["1: configuration"]',
        '    configuration["<b>registry.py</b>"]',
        '  end',
        '  tasks ----> layers',  # what it imports of floor 1 is known by that
        '  layers --> configuration',
        '',
    ]
    assert table.strip().split('\n') == [
        '| floor | where | what lives there | imports from |',
        '|---|---|---|---|',
        '| 9 | `lingvo_lite/testing/` | For tests. |  |',
        '| 5 | `tasks/` | Families. | layers, configuration |',
        '|  | `tasks/mt/` | Translation. |  |',
        '| 2 | `lingvo_lite/step.py` | Steps. | configuration |',
        '|  | `lingvo_lite/layers/` | Layers. |  |',
        '|  | `lingvo_lite/layers/points/` | Clouds. |  |',
        '| 1 | `lingvo_lite/registry.py` | Names. |  |',
        house_map.END,
        '',
        'Text.',
    ]


def test_written_twice_is_the_same():
    once = house_map.Fill(EMPTY, SMALL)
    assert house_map.Fill(once, SMALL) == once
    more = {**SMALL, 'lingvo_lite.layers.image.__init__': '"""Pixels."""'}
    assert house_map.Fill(once, more) != once


def test_no_arrow_is_lost():
    """What is left out is what the others tell."""
    arrows = house_map.Arrows(house.Sources())
    sparse = house_map.Sparse(arrows)
    assert sum(map(len, sparse.values())) < sum(map(len, arrows.values()))

    def Told(room):
        return sparse.get(room, set()).union(*(Told(other) for other in sparse.get(room, ())))

    for room, others in arrows.items():
        assert sparse[room] <= others <= Told(room)


@pytest.mark.parametrize('text', ['', house_map.BEGIN, f'{house_map.END} {house_map.BEGIN}'])
def test_without_its_place_nothing_is_written(text):
    with pytest.raises(ValueError, match='there must be one'):
        house_map.Fill(text, SMALL)


def test_main_writes_and_checks(tmp_path, monkeypatch, capsys):
    path = tmp_path / 'map.md'
    path.write_text(EMPTY)
    monkeypatch.setattr(house_map, 'DOCUMENT', str(path))
    assert house_map.Main(['--check']) == 1
    assert 'is not up to date' in capsys.readouterr().err
    assert path.read_text() == EMPTY
    assert house_map.Main([]) == 0
    assert house_map.Main(['--check']) == 0
    path.unlink()
    assert house_map.Main([]) == 1
    assert str(path) in capsys.readouterr().err
