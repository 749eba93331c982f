"""Plain text tables for logs, errors and files."""

from __future__ import annotations

from collections.abc import Sequence


def Format(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned by spaces, numbers to the right; one line a row, no trailing newline."""
    texts = [[str(cell) for cell in row] for row in rows]
    for row in texts:
        if len(row) != len(header):
            raise ValueError(f'A row has {len(row)} cells, the header {len(header)}: {row}.')
    widths = [max(map(len, column)) for column in zip(header, *texts)]
    right = [
        bool(rows) and all(isinstance(row[i], (int, float)) for row in rows)
        for i in range(len(header))
    ]
    lines = []
    for row in [list(header), *texts]:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right)
        ]
        lines.append('  '.join(cells).rstrip())
    return '\n'.join(lines)
