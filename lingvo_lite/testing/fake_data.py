"""Data for experiments, made up: small files that their own readers read.

datasets = fake_data.Write(registry.Get('mt.WmtEnDe'), folder)
data_files.SetDataDir(folder)
inputs = datasets['Train'].Instantiate()
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from lingvo_lite.inputs import records
from lingvo_lite.inputs.speech import audio, transcribed, utterances
from lingvo_lite.inputs.text import pairs, parallel, tokenizers

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


def Utterances(count: int, rate: int, seed: int = 0) -> list[utterances.Utterance]:
    """Texts of a word or two, and as many tones as they have characters, of 60 ms each."""
    draw = random.Random(seed)
    found = []
    for n in range(count):
        words = [''.join(draw.choices(_SYLLABLES, k=draw.randint(1, 2))) for _ in range(2)]
        transcript = ' '.join(words[: draw.randint(1, 2)])
        hertz = np.repeat([200.0 + 40 * (ord(c) % 32) for c in transcript], rate * 60 // 1000)
        wave = 0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / rate)
        encoded = audio.EncodeFlac(wave.astype(np.float32), rate)
        found.append(utterances.Utterance(f'{seed}-{n}', encoded, transcript, len(wave), rate))
    return found


def Write(cls: Any, folder: Any, count: int = 60) -> dict[str, Any]:
    """Writes all files that the datasets of an experiment read, vocabulary included.

    Args:
      cls: the experiment.
      folder: the data folder to write into.
      count: number of examples of each dataset, where it has no files of its own.

    Returns:
      {dataset: Params of its input}, with a vocabulary as large as that of `Tiny()`, otherwise as
      they were.

    Raises:
      TypeError: if it is not known how to make up data for an input.
    """
    vocab_size = _VocabSize(cls().Tiny())
    found = {name: cls.Dataset(name) for name in cls.Datasets()}
    for seed, (name, params) in enumerate(found.items()):
        _WriteDataset(name, params, folder, count, seed)
    for params in found.values():
        if 'vocab_size' in params.tokenizer:
            params.tokenizer.vocab_size = vocab_size
            _WriteVocabulary(params.tokenizer, folder)
    return found


def WriteLines(path: Any, lines: Sequence[str]) -> None:
    """Writes a line file."""
    with open(path, 'w', encoding='utf-8') as file:
        file.writelines(line + '\n' for line in lines)


def _VocabSize(task: Any) -> int:
    """The number of tokens of task Params: its own, or its decoder's."""
    return int(task.vocab_size if 'vocab_size' in task else task.decoder.vocab_size)


def _WriteDataset(name: str, params: Any, folder: Any, count: int, seed: int) -> None:
    if issubclass(params.cls, parallel.ParallelTextInput):
        _WritePairs(params, folder, SentencePairs(count, seed))
    elif 'file' in params:
        WriteLines(_Path(folder, params.file), [side for side, _ in SentencePairs(count, seed)])
    elif 'file_pattern' in params and issubclass(params.cls, transcribed.SpeechInput):
        _WriteUtterances(params, folder, Utterances(count, params.sample_rate, seed))
    elif 'split' in params:
        _WriteCorpora(folder)
    else:
        raise TypeError(f'{name}: no data can be made up for a {params.cls.__name__}.')


def _WriteUtterances(params: Any, folder: Any, made: Sequence[utterances.Utterance]) -> None:
    payloads = [(utterances.Encode(each), utterances.Lengths(each)) for each in made]
    patterns = params.file_pattern.split(',')
    for n, pattern in enumerate(patterns):
        own = payloads[n :: len(patterns)]
        prefix = _Path(folder, pattern.replace('-*.tfrecord', ''))
        records.WriteShards(own, prefix, len(own), 1, utterances.LENGTH_NAMES)


def _WriteCorpora(folder: Any) -> None:
    """fsdd/ and librispeech-mini/, a few utterances of each part."""
    for n, each in enumerate(Utterances(60, 8000)):
        with open(_Path(folder, f'fsdd/recordings/{n % 10}_ann_{n // 10 + 3}.wav'), 'wb') as file:
            _, wave = audio.Decode(each.audio, each.id)
            file.write(audio.EncodeWav(wave, 8000))
    chapters = ['19/198', '19/227', '26/495', '26/496', '27/123349', '27/124992']
    parts = [f'train-clean-100/{chapter}' for chapter in chapters]
    for seed, part in enumerate([*parts, 'test-other/1/2']):
        where, lines = f'librispeech-mini/{part}', []
        prefix = '-'.join(part.split('/')[1:])
        for n, each in enumerate(Utterances(8, 16000, seed)):
            lines.append((f'{prefix}-{n:04d}', each.transcript.upper()))
            with open(_Path(folder, f'{where}/{lines[-1][0]}.flac'), 'wb') as file:
                file.write(each.audio)
        if part in parts:
            path = _Path(folder, f'{where}/{prefix}.trans.txt')
            WriteLines(path, [' '.join(line) for line in lines])
        else:
            path = _Path(folder, 'librispeech-mini/test-other/transcripts.tsv')
            WriteLines(path, ['\t'.join(line) for line in lines])


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
