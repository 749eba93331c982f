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
import glob
import json
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Optional, Union

from lingvo_lite import __version__, flag_types
from lingvo_lite.inputs import cache, record_writer, source
from lingvo_lite.inputs.speech import audio, utterances
from lingvo_lite.runs import locks, tables

from . import progress

_VERSION = 1  # to be raised when other shards come out of the same files
NUM_UTTERANCES = {
    'train-clean-100': 28_539,
    'train-clean-360': 104_014,
    'train-other-500': 148_688,
    'dev-clean': 2_703,
    'dev-other': 2_864,
    'test-clean': 2_620,
    'test-other': 2_939,
}
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)  # of archives
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


class _File(NamedTuple):
    """A FLAC file or a list of transcripts, in the order of the corpus."""

    name: str  # without folder
    read: Callable[[], bytes]


class _Folder:
    """A split, unpacked."""

    reads_anytime = True

    def __init__(self, path: str):
        self.path, self.split = path, os.path.basename(os.path.abspath(path))
        self._paths = sorted(
            glob.glob(os.path.join(glob.escape(path), '*', '*', '*.flac'))
            + glob.glob(os.path.join(glob.escape(path), '*', '*', '*.trans.txt'))
        )

    def Files(self) -> Iterator[_File]:
        for path in self._paths:
            yield _File(os.path.basename(path), lambda path=path: _ReadFile(path))

    def Fingerprint(self) -> str:
        stats = [os.stat(path) for path in self._paths]
        names = [os.path.relpath(path, self.path) for path in self._paths]
        return cache.Key(_VERSION, names, [(s.st_size, s.st_mtime_ns) for s in stats])


class _Archive:
    """A split as a tar file, which is read from its beginning to its end."""

    reads_anytime = False

    def __init__(self, path: str):
        self.path = path
        self.split = os.path.basename(path).split('.tar')[0]

    def Files(self) -> Iterator[_File]:
        try:
            with tarfile.open(self.path, 'r|*') as archive:
                for member in archive:
                    parts = member.name.split('/')
                    if not member.isfile() or not parts[-1].endswith(('.flac', '.trans.txt')):
                        continue
                    if self.split not in parts:
                        raise ValueError(
                            f'{self.path} holds {member.name}, which is not of {self.split}. '
                            'Unpack it and name the folders of the splits.'
                        )
                    opened = archive.extractfile(member)
                    yield _File(parts[-1], functools.partial(self._Read, opened))
        except _DAMAGE as error:
            raise self._Damaged(error) from None

    def Fingerprint(self) -> str:
        stat = os.stat(self.path)
        return cache.Key(_VERSION, os.path.basename(self.path), stat.st_size, stat.st_mtime_ns)

    def _Read(self, opened: Any) -> bytes:
        try:
            return opened.read()
        except _DAMAGE as error:
            raise self._Damaged(error) from None

    def _Damaged(self, error: Exception) -> ValueError:
        return ValueError(f'{self.path} is cut short or damaged: {error}. Download it again.')


_Corpus = Union[_Folder, _Archive]


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
    corpora = [corpus for path in settings.inputs for corpus in _Open(path)]
    _CheckDistinct(corpora)
    os.makedirs(settings.out, exist_ok=True)
    with locks.JobLock(settings.out, 'prepare_librispeech'):
        record_writer.RemoveLeftovers(settings.out)
        checked = {corpus.split: _Check(settings, corpus) for corpus in corpora}
        made = {c.split: _Write(settings, c, checked[c.split]) for c in corpora}
        return _Summarize(settings, checked, made)


def _Open(path: str) -> list[_Corpus]:
    """The splits of an input."""
    if not os.path.exists(path):
        raise FileNotFoundError(f'There is no file or folder {os.path.abspath(path)}.')
    if not os.path.isdir(path):
        return [_Archive(path)]
    if _IsSplit(path):
        return [_Folder(path)]
    inside = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    found: list[_Corpus] = [_Folder(folder) for folder in inside if _IsSplit(folder)]
    if not found:
        raise ValueError(
            f'{path} holds no split of LibriSpeech: no {{speaker}}/{{chapter}}/*.trans.txt in it '
            'nor in a folder of it.'
        )
    for folder in inside:
        if not _IsSplit(folder) and _HasAudio(folder):
            print(f'{folder}: audio without *.trans.txt, left out.', file=sys.stderr)
    return found


def _HasAudio(path: str) -> bool:
    pattern = os.path.join(glob.escape(path), '**', '*.flac')
    return next(glob.iglob(pattern, recursive=True), None) is not None


def _IsSplit(path: str) -> bool:
    pattern = os.path.join(glob.escape(path), '*', '*', '*.trans.txt')
    return next(glob.iglob(pattern), None) is not None


def _CheckDistinct(corpora: Sequence[_Corpus]) -> None:
    by_name: dict[str, _Corpus] = {}
    for corpus in corpora:
        if corpus.split in by_name:
            raise ValueError(
                f'{corpus.split} is given twice: {by_name[corpus.split].path} and {corpus.path}.'
            )
        by_name[corpus.split] = corpus


def _Check(settings: Settings, corpus: _Corpus) -> _Checked:
    """Decodes every utterance of a split, unless that was done before."""
    path = os.path.join(settings.out, f'{corpus.split}.checked.json')
    fingerprint = corpus.Fingerprint()
    checked = _Remembered(path, fingerprint)
    if checked is None:
        checked = _Decode(corpus)

        def _Remember(temporary: str) -> None:
            with open(temporary, 'w', encoding='utf-8') as file:
                json.dump({'fingerprint': fingerprint, **checked._asdict()}, file)

        cache.WriteWhole(path, _Remember)
    _CheckCount(settings, corpus, checked)
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


def _CheckCount(settings: Settings, corpus: _Corpus, checked: _Checked) -> None:
    found, wanted = len(checked.kept), NUM_UTTERANCES.get(corpus.split)
    why = ''.join(f'\n  {name}: {reason}' for name, reason in checked.dropped[:_SHOWN])
    if not found:
        raise ValueError(f'{corpus.path}: no utterance is fit for use.{why}')
    if wanted is not None and found != wanted and not settings.allow_partial:
        raise ValueError(
            f'{corpus.path}: {found:,} utterances are fit for use, {corpus.split} has {wanted:,}; '
            f'{len(checked.dropped):,} were dropped. Download it again, or take what there is with '
            f'--allow_partial.{why}'
        )


def _Decode(corpus: _Corpus) -> _Checked:
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
    title = f'checking {corpus.split}'
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        total = NUM_UTTERANCES.get(corpus.split)
        for file in progress.Progress(title, corpus.Files(), total, 'files'):
            if file.name.endswith('.trans.txt'):
                texts.update(_Transcripts(file))
                continue
            name = file.name[: -len('.flac')]
            read = file.read if corpus.reads_anytime else functools.partial(bytes, file.read())
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


def _Transcripts(file: _File) -> dict[str, str]:
    try:
        lines = file.read().decode('utf-8').split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(f'{file.name}: not UTF-8 ({error.reason}).') from None
    split = (line.strip(_BLANK).partition(' ') for line in lines)
    return {name: text.strip(_BLANK) for name, _, text in split if name}


def _Write(settings: Settings, corpus: _Corpus, checked: _Checked) -> list[str]:
    """Writes the shards of a split, but for those that stand there; returns their paths."""
    prefix = os.path.join(settings.out, corpus.split)
    count = len(checked.kept)
    shards = -(-count // settings.utterances_per_shard)
    record_writer.RemoveOtherShards(prefix, shards)

    def _WriteText(temporary: str) -> None:
        with open(temporary, 'w', encoding='utf-8', newline='\n') as file:
            file.writelines(f'{text.lower()}\n' for _, text, _, _ in checked.kept)

    cache.WriteWhole(f'{prefix}.txt', _WriteText)
    meta = {
        'made_by': f'prepare_librispeech {_VERSION}',
        'split': corpus.split,
        'utterances': cache.Key(checked.kept),
    }
    title = f'writing {corpus.split}'
    made = progress.Progress(title, _Records(corpus, checked), count, 'files')
    return record_writer.WriteShards(made, prefix, count, shards, utterances.LENGTH_NAMES, meta)


class _Record:
    """(payload, lengths), made when it is unpacked.

    WriteShards only counts the records of shards that it keeps, so a restart costs little.
    """

    def __init__(self, file: _File, row: tuple[str, str, int, int]):
        self._file, self._row = file, row

    def __iter__(self) -> Iterator[Any]:
        name, transcript, samples, rate = self._row
        made = utterances.Utterance(name, self._file.read(), transcript, samples, rate)
        return iter((utterances.Encode(made), utterances.Lengths(made)))


def _Records(corpus: _Corpus, checked: _Checked) -> Iterator[Any]:
    rows = {f'{row[0]}.flac': row for row in checked.kept}
    for file in corpus.Files():
        if file.name in rows:
            yield _Record(file, rows[file.name])


def _ReadFile(path: str) -> bytes:
    with open(path, 'rb') as file:
        return file.read()


def _Summarize(settings: Settings, checked: dict[str, _Checked], made: dict[str, list[str]]) -> str:
    """Adds to prepare.json, which tells of earlier splits too; returns the same as text."""
    path = os.path.join(settings.out, 'prepare.json')
    report: dict[str, Any] = {'lingvo_lite': __version__, 'splits': {}}
    if os.path.exists(path):
        with open(path, encoding='utf-8') as file:
            report['splits'] = json.load(file)['splits']
    rows, lines = [], []
    for split, paths in made.items():
        held = checked[split]
        report['splits'][split] = {
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

    def _WriteReport(temporary: str) -> None:
        with open(temporary, 'w', encoding='utf-8') as file:
            json.dump(report, file, indent=2, ensure_ascii=False)
            file.write('\n')

    cache.WriteWhole(path, _WriteReport)
    head = ('', 'utterances', 'hours', 'dropped', 'shards')
    table = tables.Format(head, [tuple(map(str, row)) for row in rows])
    return '\n'.join([table.rstrip('\n'), *lines, f'In {os.path.abspath(settings.out)}.'])


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """The command; returns the exit code: 2 for a mistake, told in one line."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # before TensorFlow is imported
    try:
        print(Prepare(Settings(**vars(Parser().parse_args(argv)))))
    except (ValueError, OSError, ImportError) as error:
        print(f'prepare_librispeech: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('prepare_librispeech: stopped; the same command goes on from here.', file=sys.stderr)
        return 130
    return 0


def Parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = argparse.ArgumentParser(
        prog='prepare_librispeech',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('inputs', nargs='+', metavar='PATH', help='archives or folders')
    parser.add_argument(
        '--out', metavar='DIR', required=True, help='librispeech in the data folder'
    )
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
