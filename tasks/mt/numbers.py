"""English and German number words, as files of parallel text.

    four thousand two hundred and five plus seventeen
    viertausendzweihundertfünf plus siebzehn

A line adds up one to four numbers below 10,000. Each number belongs to one of train, dev and test,
so the numbers of dev and test are never seen in training.
"""

from __future__ import annotations

import os
import random
import tempfile
import zlib

_LINES = {'train': 40_000, 'dev': 500, 'test': 1_000}
_LIMIT = 10_000


def Split(number: int) -> str:
    """The dataset that a number belongs to: 10% test, 5% dev, the others train."""
    share = zlib.crc32(b'%d' % number) % 100
    return 'test' if share < 10 else 'dev' if share < 15 else 'train'


def Words(number: int) -> tuple[str, str]:
    """A number in English and in German words."""
    import num2words  # only here: it is needed once

    english = num2words.num2words(number, lang='en').replace(',', '')
    return english, num2words.num2words(number, lang='de')


def Write(folder: str) -> None:
    """Writes {train,dev,test}.{en,de} into `folder`, unless they are there.

    The content is a function of this file alone. Safe when several processes do it at once: each
    file appears whole.
    """
    names = [f'{split}.{language}' for split in _LINES for language in ('en', 'de')]
    if all(os.path.isfile(os.path.join(folder, name)) for name in names):
        return
    os.makedirs(folder, exist_ok=True)
    words = [Words(number) for number in range(_LIMIT)]
    for split, count in _LINES.items():
        numbers = [n for n in range(_LIMIT) if Split(n) == split]
        draw = random.Random(f'numbers {split}')
        lines: dict[str, str] = {}
        while len(lines) < count:
            chosen = [words[draw.choice(numbers)] for _ in range(draw.randint(1, 4))]
            lines[' plus '.join(en for en, _ in chosen)] = ' plus '.join(de for _, de in chosen)
        _WriteWhole(os.path.join(folder, f'{split}.en'), list(lines))
        _WriteWhole(os.path.join(folder, f'{split}.de'), list(lines.values()))


def _WriteWhole(path: str, lines: list[str]) -> None:
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(handle, 'w', encoding='utf-8') as file:
        file.writelines(line + '\n' for line in lines)
    os.replace(temporary, path)
