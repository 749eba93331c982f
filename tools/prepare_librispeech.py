r"""Makes TFRecord files of utterances from LibriSpeech as it is downloaded.

    python -m lingvo_lite.tools.prepare_librispeech --out DATA/librispeech \
        train-clean-100.tar.gz dev-clean.tar.gz

or from what `tar xf` makes of it, `LibriSpeech/`, or single splits, `LibriSpeech/dev-clean`:

    {split}/{speaker}/{chapter}/{speaker}-{chapter}-{number}.flac
    {split}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt     ID TEXT, a line an utterance

Archives need not be unpacked. What comes out, for each split:

    train-clean-100-00000-of-00029.tfrecord ...   utterances: the bytes of the FLAC, the transcript
    *.tfrecord.index.npz                          sidecars, with numbers of samples and characters
    train-clean-100.txt                           the transcripts in lower case, a line each
    prepare.json                                  utterances, hours, and what was dropped and why

Every FLAC is decoded once, on all cores, and compared with the MD5 and the number of samples that
it carries. Numbers of utterances are compared with those of the corpus. Killed, it goes on where it
was when it is started again: splits that were checked are not checked again (`*.checked.json`),
whole shards are kept.

V. Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Optional

from lingvo_lite import flag_types
from lingvo_lite.inputs import cache, source
from lingvo_lite.inputs.speech import audio, utterances
from lingvo_lite.runs import atomic, tables

from . import librispeech_corpus, preparing, progress

_VERSION = 1  # to be raised when other shards come out of the same files
_BLANK = ' \t\r'  # around what a line holds; the characters of a transcript are its own
_SHOWN = 5  # dropped utterances that the summary names


class Settings(NamedTuple):
    """What is made.

    Attributes:
      inputs: archives, folders of splits, or folders that hold those.
      out: the folder.
      utterances_per_shard: about.
      allow_partial: whether a split may have other than its official number of utterances.
    """

    inputs: Sequence[str]
    out: str
    utterances_per_shard: int = 1000
    allow_partial: bool = False


class _Checked(NamedTuple):
    """What a split holds.

    Attributes:
      kept: (id, transcript, samples, rate), in the order of the files.
      dropped: (id, reason).
    """

    kept: list[tuple[str, str, int, int]]
    dropped: list[tuple[str, str]]

    @property
    def hours(self) -> float:
        return sum(samples / rate for _, _, samples, rate in self.kept) / 3600


def Prepare(settings: Settings) -> str:
    """Makes everything that is not there yet.

    Returns:
      A summary: utterances, hours, what was dropped, shards.

    Raises:
      FileNotFoundError: if an input is missing.
      ValueError: if an input holds no split, an archive is damaged, or a split does not have its
        number of utterances.
      hyperparams.ConfigError: if the folder is in use.
    """
    audio.CheckNative()
    splits = librispeech_corpus.Open(settings.inputs)
    with preparing.Folder(settings.out, 'prepare_librispeech'):
        checked = {split.name: _Check(settings, split) for split in splits}
        made = {split.name: _Write(settings, split, checked[split.name]) for split in splits}
        return _Summarize(settings, checked, made)


def _Check(settings: Settings, split: librispeech_corpus.Split) -> _Checked:
    """Decodes every utterance of a split, unless that was done before."""
    path = os.path.join(settings.out, f'{split.name}.checked.json')
    fingerprint = split.Fingerprint()
    checked = _Remembered(path, fingerprint)
    if checked is None:
        checked = _Decode(split)
        atomic.Write(path, json.dumps({'fingerprint': fingerprint, **checked._asdict()}))
    _CheckCount(settings, split, checked)
    return checked


def _Remembered(path: str, fingerprint: str) -> Optional[_Checked]:
    try:
        with open(path, encoding='utf-8') as file:
            held = json.load(file)
    except (OSError, ValueError):
        return None
    if held.get('fingerprint') != fingerprint:
        return None
    kept, dropped = ([tuple(row) for row in held[name]] for name in _Checked._fields)
    return _Checked(kept, dropped)  # type: ignore[arg-type]


def _CheckCount(settings: Settings, split: librispeech_corpus.Split, checked: _Checked) -> None:
    found, wanted = len(checked.kept), librispeech_corpus.NUM_UTTERANCES.get(split.name)
    why = ''.join(f'\n  {name}: {reason}' for name, reason in checked.dropped[:_SHOWN])
    if not found:
        raise ValueError(f'{split.path}: no utterance is fit for use.{why}')
    if wanted is not None and found != wanted and not settings.allow_partial:
        raise ValueError(
            f'{split.path}: {found:,} utterances are fit for use, {split.name} has {wanted:,}; '
            f'{len(checked.dropped):,} were dropped. Download it again, or take what there is with '
            f'--allow_partial.{why}'
        )


def _Decode(split: librispeech_corpus.Split) -> _Checked:
    """Lengths and faults of all FLAC files, found on all cores, and the transcripts."""
    texts: dict[str, str] = {}
    lengths: dict[str, tuple[int, int]] = {}
    faults: dict[str, str] = {}

    def _Take(name: str, result: Any) -> None:
        try:
            lengths[name] = result.result()
        except (source.BadRecordError, OSError) as error:
            faults[name] = str(error)

    waiting: collections.deque[tuple[str, Any]] = collections.deque()
    threads = os.cpu_count() or 1
    title = f'checking {split.name}'
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        total = librispeech_corpus.NUM_UTTERANCES.get(split.name)
        for file in progress.Progress(title, split.Files(), total, 'files'):
            if file.name.endswith('.trans.txt'):
                texts.update(_Transcripts(file))
                continue
            name = file.name[: -len('.flac')]
            read = file.read if split.reads_anytime else functools.partial(bytes, file.read())
            waiting.append((name, pool.submit(_Length, name, read)))
            if len(waiting) > 8 * threads:
                _Take(*waiting.popleft())
        while waiting:
            _Take(*waiting.popleft())
    kept = []
    for name, length in lengths.items():
        if texts.get(name):
            kept.append((name, texts[name], *length))
        else:
            faults[name] = 'no transcript' if name not in texts else 'empty transcript'
    known = {*lengths, *faults}
    faults.update((name, 'no audio') for name in texts if name not in known)
    return _Checked(kept, sorted(faults.items()))


def _Length(name: str, read: Callable[[], bytes]) -> tuple[int, int]:
    """(samples, rate) of a FLAC file, having decoded it."""
    rate, waveform = audio.Decode(read(), name)
    return len(waveform), rate


def _Transcripts(file: librispeech_corpus.File) -> dict[str, str]:
    try:
        lines = file.read().decode('utf-8').split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(f'{file.name}: not UTF-8 ({error.reason}).') from None
    split = (line.strip(_BLANK).partition(' ') for line in lines)
    return {name: text.strip(_BLANK) for name, _, text in split if name}


def _Write(settings: Settings, split: librispeech_corpus.Split, checked: _Checked) -> list[str]:
    """Writes the shards of a split, but for those that stand there; returns their paths."""
    prefix = os.path.join(settings.out, split.name)
    count = len(checked.kept)
    shards = -(-count // settings.utterances_per_shard)
    text = ''.join(f'{text.lower()}\n' for _, text, _, _ in checked.kept)
    atomic.Write(f'{prefix}.txt', text)
    meta = {
        'made_by': f'prepare_librispeech {_VERSION}',
        'split': split.name,
        'utterances': cache.Key(checked.kept),
    }
    title = f'writing {split.name}'
    made = progress.Progress(title, _Records(split, checked), count, 'files')
    return preparing.WriteShards(made, prefix, count, shards, utterances.LENGTH_NAMES, meta)


def _Records(split: librispeech_corpus.Split, checked: _Checked) -> Iterator[preparing.LazyRecord]:
    rows = {f'{row[0]}.flac': row for row in checked.kept}
    for file in split.Files():
        if file.name in rows:
            yield preparing.LazyRecord(functools.partial(_Record, file, rows[file.name]))


def _Record(
    file: librispeech_corpus.File, row: tuple[str, str, int, int]
) -> tuple[bytes, Sequence[int]]:
    """(payload, lengths) of an utterance."""
    name, transcript, samples, rate = row
    made = utterances.Utterance(name, file.read(), transcript, samples, rate)
    return utterances.Encode(made), utterances.Lengths(made)


def _Summarize(settings: Settings, checked: dict[str, _Checked], made: dict[str, list[str]]) -> str:
    """Adds to prepare.json, which tells of earlier splits too; returns the same as text."""
    splits = preparing.ReadReport(settings.out).get('splits', {})
    rows, lines = [], []
    for split, paths in made.items():
        held = checked[split]
        splits[split] = {
            'utterances': len(held.kept),
            'hours': round(held.hours, 3),
            'dropped': dict(held.dropped),
            'shards': len(paths),
        }
        rows.append(
            (
                split,
                f'{len(held.kept):,}',
                f'{held.hours:.2f}',
                f'{len(held.dropped):,}',
                len(paths),
            )
        )
        lines += [f'dropped of {split}: {name}: {why}' for name, why in held.dropped[:_SHOWN]]
        if len(held.dropped) > _SHOWN:
            lines.append(f'... all {len(held.dropped):,} are in prepare.json')

    preparing.WriteReport(settings.out, {'splits': splits})
    head = ('', 'utterances', 'hours', 'dropped', 'shards')
    table = tables.Format(head, [tuple(map(str, row)) for row in rows])
    return '\n'.join([table.rstrip('\n'), *lines, f'In {os.path.abspath(settings.out)}.'])


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """The command; returns the exit code: 2 for a mistake, told in one line."""
    return preparing.Main(
        'prepare_librispeech', lambda: Prepare(Settings(**vars(Parser().parse_args(argv))))
    )


def Parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = preparing.Parser('prepare_librispeech', __doc__ or '', 'librispeech')
    parser.add_argument('inputs', nargs='+', metavar='PATH', help='archives or folders')
    most = Settings._field_defaults['utterances_per_shard']
    parser.add_argument(
        '--utterances_per_shard',
        metavar='N',
        type=flag_types.Count,
        default=most,
        help=f'about (default: {most:,})',
    )
    parser.add_argument(
        '--allow_partial',
        action='store_true',
        help='take splits that do not have their number of utterances',
    )
    return parser


if __name__ == '__main__':
    sys.exit(Main())
