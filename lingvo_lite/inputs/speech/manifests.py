"""Manifests: text files that list audio files, what is said in them, and how long they are.

A header line names the columns, which are separated by tabs; `id`, `samples` (of each channel) and
`sample_rate` may be missing, and further columns may be there:

    id           file                   samples   sample_rate   transcript
    7_theo_3     recordings/7_theo_3.wav   2384   8000          seven

A file is looked for relative to the manifest's own folder, then as `data_files.FindData` does.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Callable, NamedTuple, Optional, Union

from absl import logging

from lingvo_lite.inputs import cache, data_files, source
from lingvo_lite.inputs.speech import audio

_VERSION = 1
_THREADS = 8  # that read audio files
_MANY = 10_000  # files, from which on the log says what takes so long


class Entry(NamedTuple):
    """A line of a manifest.

    Attributes:
      id: of the utterance.
      file: as the manifest writes it.
      transcript: what is said.
      samples: of each channel; 0 if the manifest does not give it and the file cannot be read.
      sample_rate: in hertz; 0 likewise.
    """

    id: str
    file: str
    transcript: str
    samples: int
    sample_rate: int


class Manifest:
    """A manifest that was read. Lengths that it does not give are read from the audio files, once.

    Attributes:
      path: of the manifest.
      entries: its lines.
    """

    def __init__(self, path: str):
        """Reads all of it.

        Raises:
          FileNotFoundError: if there is none.
          ValueError: if it is empty, a column or a value is missing, or two ids are equal. Names
            the line.
        """
        self.path = path
        rows = _Rows(path)
        least = 1 if 'samples' in rows[0] else 0
        if not least:
            files = [_FindIfThere(row['file'], path) for row in rows]
            for row, length in zip(rows, _PerFile('lengths', files, _LengthOrNone)):
                row.update(zip(('samples', 'sample_rate'), map(str, length or (0, 0))))
        self.entries = [
            Entry(
                row.get('id') or os.path.splitext(os.path.basename(row['file']))[0],
                row['file'],
                row['transcript'],
                _Count(row, 'samples', path, line, least),
                _Count(row, 'sample_rate', path, line, least),
            )
            for line, row in enumerate(rows, 2)
        ]
        seen: dict[str, int] = {}
        for line, entry in enumerate(self.entries, 2):
            if entry.id in seen:
                raise ValueError(
                    f'{path}, line {line:,}: the id {entry.id!r} stands in line {seen[entry.id]:,} '
                    'too. Give a column `id`.'
                )
            seen[entry.id] = line

    def __len__(self) -> int:
        return len(self.entries)

    def Find(self, index: int) -> str:
        """The path of the audio file of an entry. Raises FileNotFoundError."""
        return _Find(self.entries[index].file, self.path)

    def Fingerprint(self) -> str:
        """A hash of the entries and of the bytes of their files, all of which are read for it once.

        It knows nothing of folders and times, so a copy has the same. A file that cannot be read
        counts as another than the one that can.
        """
        files = [_FindIfThere(entry.file, self.path) for entry in self.entries]
        return cache.Key('manifest', self.entries, _PerFile('content', files, _HashOrNone))


def Write(path: str, rows: Iterable[Sequence[Union[str, int]]], columns: Sequence[str]) -> None:
    """Writes a manifest. Raises ValueError if a value holds a tab or ends a line."""
    text = ['\t'.join(columns)]
    for row in rows:
        values = [str(value) for value in row]
        if any(c in value for value in values for c in '\t\r\n'):
            raise ValueError(f'{path}: a value of {values} holds a tab or the end of a line.')
        text.append('\t'.join(values))
    with open(path, 'w', encoding='utf-8', newline='\n') as file:
        file.write('\n'.join(text) + '\n')


def Produce(name: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """The path of a manifest in the cache folder, written if it is not there.

    Args:
      name: that begins its file name.
      rows: (id, file relative to the data folder, transcript).

    Raises:
      BadRecordError: if an audio file cannot be read.
    """
    files = [data_files.FindData(file) for _, file, _ in rows]
    key = cache.Key(_VERSION, rows, [_Stamp(path) for path in files])

    def _Write(path: str) -> None:
        lengths = _Each(files, Length)
        complete = [(*row, *length) for row, length in zip(rows, lengths)]
        Write(path, complete, ('id', 'file', 'transcript', 'samples', 'sample_rate'))

    return cache.Produce(f'manifests/{name}-{key}.tsv', _Write)


def _Rows(path: str) -> list[dict[str, str]]:
    """The lines behind the header as {column: value}."""
    with open(path, 'rb') as file:
        data = file.read()
    try:
        lines = io.StringIO(data.decode('utf-8-sig'), newline='\n').read().split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}, byte {error.start:,}: not UTF-8 ({error.reason}).') from None
    lines = [line.rstrip('\r') for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) < 2:
        raise ValueError(f'{path} is empty: it lists no audio file.')
    columns = lines[0].split('\t')
    if len(set(columns)) < len(columns):
        raise ValueError(f'{path}, line 1: the header names a column twice: {columns}.')
    missing = [name for name in ('file', 'transcript') if name not in columns]
    if missing:
        raise ValueError(
            f'{path}, line 1: the header names the columns {columns}, separated by tabs; '
            f'{" and ".join(missing)} must be among them.'
        )
    rows = []
    for number, line in enumerate(lines[1:], 2):
        values = line.split('\t')
        if len(values) != len(columns):
            raise ValueError(
                f'{path}, line {number:,}: {len(values)} values in {len(columns)} columns.'
            )
        rows.append(dict(zip(columns, values)))
    return rows


def _Count(row: dict[str, str], column: str, path: str, line: int, least: int) -> int:
    text = row.get(column, 'no such column')
    # No more digits than NumPy's integers hold.
    count = int(text) if re.fullmatch('[0-9]{1,15}', text) else -1
    if count < least:
        raise ValueError(
            f'{path}, line {line:,}: {column} must be an integer above 0, got {text[:40]!r}.'
        )
    return count


def _Find(file: str, manifest: str) -> str:
    beside = os.path.join(os.path.dirname(os.path.abspath(manifest)), file)
    return beside if os.path.isfile(beside) else data_files.FindData(file)


def _FindIfThere(file: str, manifest: str) -> str:
    try:
        return _Find(file, manifest)
    except FileNotFoundError:
        return ''


def _PerFile(what: str, files: Sequence[str], ask: Callable[[str], Any]) -> list[Any]:
    """What `ask` says of each file, from the cache if none has changed since all were asked.

    A file of which it could say nothing is asked for again each time, because what was in the way
    may be gone (access denied, a disk that did not answer) with no change of the file's stamp.

    Args:
      what: that is asked for, a word.
      files: their paths; '' for one that is not there.
      ask: given a path; what JSON can hold, None if the file cannot be read.
    """
    key = cache.Key(_VERSION, what, [_Stamp(path) for path in files])
    name = f'manifests/{what}-{key}.json'

    def _Keep(answers: list[Any], target: str) -> None:
        with open(target, 'w', encoding='utf-8') as file:
            json.dump(answers, file)

    def _Write(target: str) -> None:
        if len(files) >= _MANY:
            logging.info(
                'Reading the %s of %s audio files; this is done once.', what, f'{len(files):,}'
            )
        _Keep(_Each(files, ask), target)

    def _Read(target: str) -> list[Any]:
        with open(target, encoding='utf-8') as file:
            found = json.load(file)
        if not isinstance(found, list) or len(found) != len(files):
            raise ValueError(f'it does not hold {len(files)} answers')
        return found

    answers = cache.Load(name, _Write, _Read)
    unread = [i for i, answer in enumerate(answers) if answer is None]
    for i, answer in zip(unread, _Each([files[i] for i in unread], ask)):
        answers[i] = answer
    if any(answers[i] is not None for i in unread):
        with contextlib.suppress(OSError):  # a cache folder that is only read
            cache.WriteWhole(os.path.join(cache.CacheDir(), name), lambda t: _Keep(answers, t))
    return answers


def _Stamp(path: str) -> tuple[str, int, int]:
    """Changes when the file does, and when it comes or goes."""
    try:
        stat = os.stat(path)
    except OSError:
        return path, -1, -1
    return path, stat.st_size, stat.st_mtime_ns


def _Each(files: Sequence[str], ask: Callable[[str], Any]) -> list[Any]:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(ask, files))


def _LengthOrNone(path: str) -> Optional[tuple[int, int]]:
    try:
        return Length(path) if path else None
    except source.BadRecordError:
        return None


def _HashOrNone(path: str) -> Optional[str]:
    try:
        return cache.FileHash(path)
    except OSError:
        return None


def Length(path: str) -> tuple[int, int]:
    """(samples of each channel, rate) of an audio file. Raises BadRecordError."""
    header = audio.ReadHeader(path)
    return header.num_samples, header.rate
