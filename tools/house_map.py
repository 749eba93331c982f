"""The map in docs/architecture.md, drawn from the sources so that it is true.

    python -m lingvo_lite.tools.house_map            writes it anew
    python -m lingvo_lite.tools.house_map --check    says whether it is up to date

It stands between two comments of the document: a picture of the floors (Mermaid), and a table of
the rooms. What a room or a wing is for is the first line of its docstring. A family of tasks is
drawn as a wing of tasks/.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from lingvo_lite.runs import atomic
from lingvo_lite.tools import house

DOCUMENT = os.path.join(house.REPOSITORY, 'docs', 'architecture.md')
BEGIN = '<!-- from here on by house_map -->'
END = '<!-- up to here -->'
HIDDEN = (0, 9)  # floors without arrows: everybody reads the version, testing/ looks everywhere


class Part(NamedTuple):
    """A package or file that a room or a wing consists of: its path, and what it says of itself."""

    path: str
    about: str


class Drawn(NamedTuple):
    """A room as it is drawn.

    Attributes:
      name: of the room.
      floor: that it is on.
      parts: what it consists of, files first.
      wings: packages in it.
    """

    name: str
    floor: int
    parts: list[Part]
    wings: list[Part]


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """Writes or checks the map; returns the exit code."""
    args = Parser().parse_args(argv)
    try:
        with open(DOCUMENT, encoding='utf-8') as file:
            text = file.read()
        wanted = Fill(text, house.Sources())
        if not args.check:
            atomic.Write(DOCUMENT, wanted)
        elif text != wanted:
            raise ValueError(f'{DOCUMENT} is not up to date. Run it without --check.')
    except (OSError, ValueError) as error:
        print(f'house_map: {error}', file=sys.stderr)
        return 1
    return 0


def Parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = argparse.ArgumentParser(
        prog='house_map',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('--check', action='store_true', help='write nothing; 1 if it would differ')
    return parser


def Fill(text: str, sources: Mapping[str, str]) -> str:
    """A document with the map between the two comments.

    Raises:
      ValueError: if the comments are not there, once each and in this order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f'there must be one {BEGIN} and one {END}, in this order.')
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    drawn, arrows = Rooms(sources), Arrows(sources)
    return f'{before}{BEGIN}\n{Picture(drawn, arrows)}\n{Table(drawn, arrows)}{END}{after}'


def Rooms(sources: Mapping[str, str]) -> list[Drawn]:
    """The rooms that there are, the highest floor first; lingvo_lite/__init__.py is none."""
    modules = {house.Module(name): source for name, source in sources.items()}
    found: dict[str, Drawn] = {}

    def Describe(module: str) -> Part:
        return Part(house.Path(module, sources), house.Docstring(modules[module]).split('\n')[0])

    for module, room in house.ROOMS.items():
        if module in modules and room.floor:
            own = found.setdefault(room.name, Drawn(room.name, room.floor, [], []))
            own.parts.append(Describe(module))
            own.wings.extend(Describe(wing) for wing in _Wings(module, sources))
    for own in found.values():
        own.parts.sort(key=lambda part: (part.path.endswith('/'), part.path))
    return sorted(found.values(), key=lambda own: -own.floor)


def _Wings(module: str, sources: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(sources):
        wing = house.Module(name)
        if wing != name and wing.rpartition('.')[0] == module:
            yield wing


def Arrows(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """{room: rooms that it imports from}, all imports between two rooms summed up."""
    arrows: dict[str, set[str]] = {}
    for module, each in house.Own(house.Imports(sources)):
        own, other = house.RoomOf(module), house.RoomOf(each.target)
        if own and other and own.floor not in HIDDEN and other.floor not in HIDDEN:
            names = [room.name.split('/')[0] for room in (own, other)]
            if names[0] != names[1]:
                arrows.setdefault(names[0], set()).add(names[1])
    return arrows


def Sparse(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows without those that say nothing new: past a room that lies in between."""

    def Reachable(room: str, seen: set[str]) -> set[str]:
        for other in arrows.get(room, set()) - seen:
            seen.add(other)
            Reachable(other, seen)
        return seen

    return {
        room: {
            other
            for other in others
            if not any(other in Reachable(between, set()) for between in others - {other})
        }
        for room, others in arrows.items()
    }


def Picture(drawn: Sequence[Drawn], arrows: Mapping[str, set[str]]) -> str:
    """The floors as a Mermaid flowchart."""
    shown = [room for room in drawn if room.floor not in HIDDEN]
    sparse = Sparse(arrows)
    lines = ['```mermaid', 'flowchart TB']
    for floor in sorted({room.floor for room in shown}, reverse=True):
        lines.append(f'  subgraph floor{floor}["{floor}: {house.FLOORS[floor]}"]')
        lines += [f'    {room.name}["{_Label(room)}"]' for room in shown if room.floor == floor]
        lines.append('  end')
    for room in shown:
        for other in shown:
            if other.name in sparse.get(room.name, set()):
                # An arrow is as long as it goes down, so that floors lie above each other.
                dashes = '-' * (1 + max(1, room.floor - other.floor))
                lines.append(f'  {room.name} {dashes}> {other.name}')
    return '\n'.join([*lines, '```', ''])


def _Label(room: Drawn) -> str:
    own = ' '.join(_Short(part) for part in room.parts)
    wings = ', '.join(os.path.basename(wing.path.rstrip('/')) for wing in room.wings)
    return f'<b>{own}</b><br/>{wings}' if wings else f'<b>{own}</b>'


def _Short(part: Part) -> str:
    return part.path.replace('lingvo_lite/', '', 1)


def Table(drawn: Sequence[Drawn], arrows: Mapping[str, set[str]]) -> str:
    """The rooms and their wings, what lives there, and all rooms that they import from."""
    lines = ['| floor | where | what lives there | imports from |', '|---|---|---|---|']
    order = [room.name for room in drawn]
    for room in drawn:
        others = ', '.join(sorted(arrows.get(room.name, set()), key=order.index))
        floor = str(room.floor)
        for part in [*room.parts, *room.wings]:
            lines.append(f'| {floor} | `{part.path}` | {part.about} | {others} |')
            floor = others = ''
    return '\n'.join([*lines, ''])


if __name__ == '__main__':
    sys.exit(Main())
