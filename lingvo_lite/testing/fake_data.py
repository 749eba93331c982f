"""Data for experiments, made up: small files that their own readers read.

datasets = fake_data.Write(registry.Get('mt.WmtEnDe'), folder)
source.SetDataDir(folder)
inputs = datasets['Train'].Instantiate()
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

from lingvo_lite.inputs import pairs, records, text, tokenizers

_SYLLABLES = ('ka', 'lo', 'mi', 'su', 'te', 'ri', 'po', 'na')


def SentencePairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Sentences of a few syllables, no two alike, and their translations.

    The translation of a word is its syllables backwards: 'kalo mi' -> 'loka mi'. Both languages
    have the same 17 characters.
    """
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        words = [draw.choices(_SYLLABLES, k=draw.randint(1, 3)) for _ in range(draw.randint(1, 6))]
        source = ' '.join(''.join(word) for word in words)
        found[source] = ' '.join(''.join(reversed(word)) for word in words)
    return list(found.items())


def Write(cls: Any, folder: Any, count: int = 60) -> dict[str, Any]:
    """Writes all files that the datasets of an experiment read, vocabulary included.

    Args:
      cls: the experiment.
      folder: the data folder to write into.
      count: number of examples of each dataset.

    Returns:
      {dataset: Params of its input}, with a vocabulary as large as that of `Tiny()`, otherwise as
      they were.

    Raises:
      TypeError: if it is not known how to make up data for an input.
    """
    vocab_size = cls().Tiny().vocab_size
    found = {name: cls.Dataset(name) for name in cls.Datasets()}
    for seed, (name, params) in enumerate(found.items()):
        if not issubclass(params.cls, text.ParallelTextInput):
            raise TypeError(f'{name}: no data can be made up for a {params.cls.__name__}.')
        _WritePairs(params, folder, SentencePairs(count, seed))
    for params in found.values():
        if 'vocab_size' in params.tokenizer:
            params.tokenizer.vocab_size = vocab_size
            _WriteVocabulary(params.tokenizer, folder)
    return found


def WriteLines(path: Any, lines: Sequence[str]) -> None:
    """Writes a line file."""
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines(line + '\n' for line in lines)


def _WritePairs(params: Any, folder: Any, made: Sequence[tuple[str, str]]) -> None:
    if params.file_pattern:
        prefix = _Path(folder, params.file_pattern.replace('-*.tfrecord', ''))
        payloads = ((pairs.EncodePair(*pair), [len(side) for side in pair]) for pair in made)
        records.WriteShards(payloads, prefix, len(made), 2, pairs.LENGTH_NAMES)
        return
    for side, name in enumerate((params.source_file, params.target_file)):
        WriteLines(_Path(folder, name), [pair[side] for pair in made])


def _WriteVocabulary(params: Any, folder: Any) -> None:
    """Makes the tokenizer's model, or those of the files that it trains itself on that miss."""
    lines = [side for pair in SentencePairs(400) for side in pair]
    if params.model_file:
        with open(_Path(folder, params.model_file), 'wb') as file:
            file.write(tokenizers.TrainSentencePiece(lines, params.vocab_size))
    for path in (_Path(folder, name) for name in params.train_files):
        if not os.path.exists(path):
            WriteLines(path, lines)


def _Path(folder: Any, name: str) -> str:
    """Where a data file stands; its folder is made."""
    path = os.path.join(str(folder), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path
