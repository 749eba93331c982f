r"""Makes the data of mt.WmtEnDe from downloaded WMT text.

    python -m lingvo_lite.tools.prepare_wmt --out DATA/wmt_en_de \
        --train europarl-v7.de-en.en,europarl-v7.de-en.de \
                commoncrawl.de-en.en,commoncrawl.de-en.de \
                news-commentary-v9.de-en.en,news-commentary-v9.de-en.de \
        --dev newstest2013.en,newstest2013.de --test newstest2014.en,newstest2014.de

Files are UTF-8 text with a sentence a line, plain or .gz. What comes out:

    train-00000-of-00032.tfrecord ...         cleaned pairs (see pair_cleaning), in the order read
    newstest2013-*.tfrecord, newstest2014-*   dev and test: every line, as it was
    *.tfrecord.index.npz                      sidecars, with the number of tokens of each side
    spm.model                                 SentencePiece, shared by both languages
    prepare.json                              how much was read, kept and dropped, and why

Killed, it goes on where it was when it is started again: whole shards, and a vocabulary, that were
made from the same text with the same settings are kept. Text is mapped, not read into memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from lingvo_lite import flag_types
from lingvo_lite.inputs import cache, records
from lingvo_lite.inputs.text import pairs, tokenizers
from lingvo_lite.runs import tables

from . import pair_cleaning, preparing, progress

_VERSION = 1  # to be raised when other shards come out of the same text and settings
DATASETS = ('train', 'newstest2013', 'newstest2014')  # of --train, --dev, --test
_CHUNK = 1000  # pairs that are encoded at once
_Progress = functools.partial(progress.Progress, unit='pairs', tells_left=True)


class Settings(NamedTuple):
    """What is made.

    Attributes:
      train, dev, test: (source file, target file) pairs.
      out: the folder.
      rules: what training pairs must be like.
      vocab_size: of SentencePiece, the four special ids included.
      sample_pairs: most training pairs that SentencePiece is trained on.
      shards: number of train shards.
    """

    train: Sequence[tuple[str, str]]
    dev: tuple[str, str]
    test: tuple[str, str]
    out: str
    rules: pair_cleaning.Rules = pair_cleaning.Rules()
    vocab_size: int = 32_000
    sample_pairs: int = 1_000_000
    shards: int = 32


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """The command; returns the exit code: 2 for a mistake, told in one line."""
    return preparing.Main('prepare_wmt', lambda: Prepare(_Read(argv)))


def Prepare(settings: Settings) -> str:
    """Makes everything that is not there yet.

    Returns:
      A summary: pairs read, kept, dropped by reason, tokens, shards.

    Raises:
      FileNotFoundError: if a text file is missing.
      ValueError: if a file is empty, not UTF-8, cut short, or not as long as its translation, or
        if nothing is left to train on.
      locks.LockedError: if the folder is in use.
    """
    train = _Corpus([_Open(each) for each in settings.train])
    others = {
        name: _Corpus([_Open(each)])
        for name, each in zip(DATASETS[1:], (settings.dev, settings.test))
    }
    with preparing.Folder(settings.out, 'prepare_wmt'):
        selection = pair_cleaning.Selection(settings.rules, len(train))
        texts = train.Cleaned(np.arange(len(train)))
        selection.Scan(_Progress('reading', texts, len(train)))
        if not len(selection.kept):
            raise ValueError(
                f'None of the {len(train):,} pairs is fit to train on: {_Why(selection)}.'
            )
        tokenizer = _Tokenizer(settings, train, selection)
        made = {'train': _WriteTrain(settings, train, selection, tokenizer)}
        for name, corpus in others.items():
            made[name] = _Write(
                settings, name, corpus, corpus.Plain(), len(corpus), 1, tokenizer, {}
            )
        return _Summarize(settings, len(train), selection, made)


class _Corpus:
    """Several pairs of files as one."""

    def __init__(self, parts: Sequence[pairs.LinePairs]):
        self._parts = parts
        self._first = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def Cleaned(self, numbers: np.ndarray) -> Iterator[tuple[str, str]]:
        """The pairs of these numbers, which increase, cleaned."""
        for part, first, end in zip(self._parts, self._first, self._first[1:]):
            own = numbers[np.searchsorted(numbers, first) : np.searchsorted(numbers, end)]
            for i in own - first:
                source, target = part.Get(int(i))
                yield pair_cleaning.Clean(source), pair_cleaning.Clean(target)

    def Plain(self) -> Iterator[tuple[str, str]]:
        """All pairs as they are."""
        for part in self._parts:
            for i in range(len(part)):
                source, target = part.Get(i)
                yield source, target

    def Fingerprint(self) -> str:
        """A hash of the text."""
        return cache.Key([part.Fingerprint() for part in self._parts])


def _Open(files: tuple[str, str]) -> pairs.LinePairs:
    for path in files:
        if not os.path.isfile(path):
            raise FileNotFoundError(f'There is no file {os.path.abspath(path)}.')
        if path.endswith(('.sgm', '.sgm.gz')):
            raise ValueError(
                f'{path} is SGML; plain text with a sentence a line is wanted. For newstest2014: '
                "'sacrebleu -t wmt14/full -l en-de --echo src' and the same with 'ref'."
            )
    return pairs.LinePairs(*files)


def _Tokenizer(
    settings: Settings, train: _Corpus, selection: pair_cleaning.Selection
) -> tokenizers.SentencePieceTokenizer:
    """Trains the vocabulary, or finds it in the cache folder, and puts it into settings.out."""
    sample = selection.kept
    if len(sample) > settings.sample_pairs:
        draw = np.random.default_rng(0)
        sample = np.sort(draw.choice(sample, settings.sample_pairs, replace=False))

    def _Train(path: str) -> None:
        texts = _Progress('reading for the vocabulary', train.Cleaned(sample), len(sample))
        model = tokenizers.TrainSentencePiece(
            (text for pair in texts for text in pair), settings.vocab_size
        )
        with open(path, 'wb') as file:
            file.write(model)

    key = cache.Key(
        'wmt', _VERSION, train.Fingerprint(), settings.rules, settings.vocab_size, len(sample)
    )
    trained = cache.Produce(f'tokenizers/{key}.model', _Train)
    path = os.path.abspath(os.path.join(settings.out, 'spm.model'))
    cache.WriteWhole(path, functools.partial(shutil.copyfile, trained))
    p = tokenizers.SentencePieceTokenizer.Params()
    return p.Set(vocab_size=settings.vocab_size, model_file=path).Instantiate()


def _WriteTrain(
    settings: Settings,
    train: _Corpus,
    selection: pair_cleaning.Selection,
    tokenizer: tokenizers.BaseTokenizer,
) -> list[str]:
    kept = selection.kept
    shards = min(settings.shards, len(kept))
    rules = dataclasses.asdict(settings.rules)
    return _Write(
        settings, 'train', train, train.Cleaned(kept), len(kept), shards, tokenizer, rules
    )


def _Write(
    settings: Settings,
    name: str,
    corpus: _Corpus,
    texts: Iterator[tuple[str, str]],
    count: int,
    shards: int,
    tokenizer: tokenizers.BaseTokenizer,
    rules: dict[str, Any],
) -> list[str]:
    """Writes the shards of a dataset, but for those that stand there; returns their paths."""
    prefix = os.path.join(settings.out, name)
    meta = {
        'made_by': f'prepare_wmt {_VERSION}',
        'text': corpus.Fingerprint(),
        'rules': rules,
        'tokenizer': tokenizer.Fingerprint(),
    }
    made = _Progress(f'writing {name}', _Records(texts, tokenizer), count)
    return preparing.WriteShards(made, prefix, count, shards, pairs.LENGTH_NAMES, meta)


class _Chunk:
    """Some pairs, and their ids, which are found when first asked for."""

    def __init__(self, texts: Sequence[tuple[str, str]], tokenizer: tokenizers.BaseTokenizer):
        self._texts = texts
        self._tokenizer = tokenizer
        self._counts: list[int] = []

    def Records(self) -> Iterator[preparing.LazyRecord]:
        """The records of all pairs."""
        return (preparing.LazyRecord(lambda i=i: self._Make(i)) for i in range(len(self._texts)))

    def _Make(self, i: int) -> tuple[bytes, list[int]]:
        """The payload of pair i, and the number of tokens of source and target."""
        if not self._counts:
            rows = self._tokenizer.Encode([text for pair in self._texts for text in pair])
            self._counts = [len(row) for row in rows]
        return pairs.EncodePair(*self._texts[i]), self._counts[2 * i : 2 * i + 2]


def _Records(
    texts: Iterator[tuple[str, str]], tokenizer: tokenizers.BaseTokenizer
) -> Iterator[preparing.LazyRecord]:
    while chunk := list(itertools.islice(texts, _CHUNK)):
        yield from _Chunk(chunk, tokenizer).Records()


def _Summarize(
    settings: Settings,
    num_read: int,
    selection: pair_cleaning.Selection,
    made: dict[str, list[str]],
) -> str:
    """Writes prepare.json; returns the same as text."""
    rows, report = [], {}
    for name, paths in made.items():
        opened = records.RecordSource(paths)
        source, target = (int(n) for n in opened.lengths.sum(axis=0, dtype=np.int64))
        rows.append((name, *(f'{n:,}' for n in (len(opened), source, target, len(paths)))))
        report[name] = {
            'pairs': len(opened),
            'source_tokens': source,
            'target_tokens': target,
            'shards': len(paths),
        }

    told = {
        'files': {'train': settings.train, 'dev': settings.dev, 'test': settings.test},
        'rules': dataclasses.asdict(settings.rules),
        'vocab_size': settings.vocab_size,
        'sample_pairs': settings.sample_pairs,
        'pairs_read': num_read,
        'pairs_dropped': selection.Dropped(),
        'made': report,
    }
    preparing.WriteReport(settings.out, told)
    table = tables.Format(('', 'pairs', 'source tokens', 'target tokens', 'shards'), rows)
    return (
        f'{num_read:,} training pairs read, {len(selection.kept):,} kept; dropped: '
        f'{_Why(selection)}.\n{table}\nIn {os.path.abspath(settings.out)}.'
    )


def _Why(selection: pair_cleaning.Selection) -> str:
    return ', '.join(f'{reason} {count:,}' for reason, count in selection.Dropped().items())


def _Read(argv: Optional[Sequence[str]]) -> Settings:
    """The settings that the flags ask for."""
    parsed = Parser().parse_args(argv)
    rules = pair_cleaning.Rules(max_words=parsed.max_words, max_ratio=parsed.max_ratio)
    return Settings(
        train=parsed.train,
        dev=parsed.dev,
        test=parsed.test,
        out=parsed.out,
        rules=rules,
        vocab_size=parsed.vocab_size,
        sample_pairs=parsed.sample_pairs,
        shards=parsed.shards,
    )


def Parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = preparing.Parser('prepare_wmt', __doc__ or '', 'wmt_en_de')
    pair: dict[str, Any] = {'type': _PairOfFiles, 'metavar': 'SRC,TGT', 'required': True}
    parser.add_argument('--train', nargs='+', action='extend', help='may be repeated', **pair)
    parser.add_argument('--dev', help='newstest2013', **pair)
    parser.add_argument('--test', help='newstest2014', **pair)
    fields, rules = Settings._field_defaults, pair_cleaning.Rules()
    count = flag_types.Count
    for flag, kind, default, text in (
        ('--vocab_size', count, fields['vocab_size'], 'SentencePiece ids'),
        ('--sample_pairs', count, fields['sample_pairs'], 'pairs to train SentencePiece on'),
        ('--shards', count, fields['shards'], 'files of training pairs'),
        ('--max_words', count, rules.max_words, 'longest side of a training pair'),
        ('--max_ratio', float, rules.max_ratio, 'largest ratio of the lengths of its sides'),
    ):
        parser.add_argument(
            flag, metavar='N', type=kind, default=default, help=f'{text} (default: {default:,})'
        )
    return parser


def _PairOfFiles(text: str) -> tuple[str, str]:
    source, comma, target = text.partition(',')
    if not (source and comma and target) or ',' in target:
        raise argparse.ArgumentTypeError(f'{text!r} is not in the form SRC,TGT: two files.')
    return source, target


if __name__ == '__main__':
    sys.exit(Main())
