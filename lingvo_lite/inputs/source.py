"""Where examples come from: records that can be read in any order by their index.

`LineSource` is a text file, plain or .gz; `MemorySource` a list; `records.RecordSource` TFRecord
files. `IterableSource` is for what can only be read from its beginning, and promises less.

Recipes name files relative to the data folder; `FindData` turns such a name into a path.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, Optional, Union

import numpy as np
from absl import logging

from lingvo_lite.inputs import cache

_BLOCK = 1 << 24  # bytes that are looked at in one go


class BadRecordError(ValueError):
    """A record that cannot be used. The message names file, record and byte."""


class BadRecords:
    """Counts the bad records of an input and stops it when they are more than `limit`.

    Attributes:
      ids: of the bad records met so far.
    """

    def __init__(self, limit: int, total: int, ids: Optional[set[int]] = None, first: int = 0):
        """Counts from what is known already.

        Args:
          limit: how many are allowed.
          total: number of records, for messages.
          ids: of those known already; this set grows. Windows of a stream share one.
          first: added to an index before it is counted: where a window begins in its stream.
        """
        self.ids: set[int] = set() if ids is None else ids
        self._limit, self._total, self._first = limit, total, first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.ids)

    def Note(self, index: int, error: BadRecordError) -> None:
        """Counts and logs a bad record, once however often it is read.

        Raises:
          BadRecordError: if there are too many.
        """
        with self._lock:
            if self._first + index in self.ids:
                return
            self.ids.add(self._first + index)
            count = len(self.ids)
        text = f'{error} {count:,} of {self._total:,} records skipped'
        if count > self._limit:
            raise BadRecordError(
                f'{text}; more than input.max_bad_records={self._limit}, so stopping.'
            ) from error
        logging.warning('%s; input.max_bad_records=%d.', text, self._limit)


class Source:
    """Records that can be read in any order, by any thread.

    Attributes:
      name: of the file, or of the first and how many more there are.
      first: where this begins, if it is a window of a stream; else 0.
      bad_ids: the bad records of all windows of its stream, as `BadRecords` shares them.
    """

    name: str
    first = 0
    bad_ids: Optional[set[int]] = None

    def __len__(self) -> int:
        raise NotImplementedError

    def Get(self, index: int) -> Any:
        """Record `index`.

        Raises:
          BadRecordError: if it cannot be used.
        """
        raise NotImplementedError

    def Where(self, index: int) -> str:
        """File, record and byte, as error messages write it."""
        return f'{self.name}, record {index:,}'

    def Fingerprint(self) -> str:
        """A hash that is equal only if all records are."""
        raise NotImplementedError


class MemorySource(Source):
    """Records in a list. One that could not be read is the error that says why."""

    def __init__(
        self,
        records: Sequence[Union[str, bytes, BadRecordError]],
        name: str = 'memory',
        first: int = 0,
        bad_ids: Optional[set[int]] = None,
    ):
        """Keeps the records; `first` and `bad_ids` as in `Source`."""
        self.name, self.first, self.bad_ids = name, first, bad_ids
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def Get(self, index: int) -> Union[str, bytes]:
        """Record `index`. Raises BadRecordError if an error stands in its place."""
        record = self._records[index]
        if isinstance(record, BadRecordError):
            raise BadRecordError(str(record))
        return record

    def Where(self, index: int) -> str:
        """Name and number of the record, in its stream if this is a window of one."""
        return f'{self.name}, record {self.first + index:,}'

    def Fingerprint(self) -> str:
        """A hash of all records."""
        digest = hashlib.blake2b(digest_size=12)
        for record in self._records:
            text = record if isinstance(record, (bytes, str)) else f'bad: {record}'
            data = text if isinstance(text, bytes) else text.encode('utf-8', 'surrogatepass')
            digest.update(len(data).to_bytes(8, 'little') + data)
        return digest.hexdigest()


class LineSource(Source):
    r"""The lines of a UTF-8 text file, plain or .gz, as str.

    A line ends at \n alone (as for wc and every aligner; str.splitlines would also cut at U+2028
    and so shift a translation against its source); an \r before it is dropped, and so is a byte
    order mark in front of the first line. The file is not kept in memory. It is read, not mapped:
    reading a mapped file that somebody shortens ends the process. A .gz file is unpacked into the
    cache folder once.
    """

    def __init__(self, path: str):
        """Opens and indexes the file.

        Args:
          path: of the file; as .gz if it begins like one, whatever its name.

        Raises:
          FileNotFoundError: if there is none.
          ValueError: if it is empty or no file, or a .gz file that is cut short.
        """
        self.name = path
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f'{path} is no regular file, so its lines cannot be found by number.')
        self.path = _Unpacked(path)
        self._file = os.open(self.path, os.O_RDONLY)
        digest = hashlib.blake2b(digest_size=12)
        self._size, ends, last = 0, [], 10
        while block := os.pread(self._file, _BLOCK, self._size):
            digest.update(block)
            ends.append(self._size + np.flatnonzero(np.frombuffer(block, np.uint8) == 10))
            self._size += len(block)
            last = block[-1]
        if not self._size:
            raise ValueError(f'{path} is empty: it holds no line.')
        if last != 10:
            ends.append(np.array([self._size]))
        self._ends = np.concatenate(ends)
        self._fingerprint = digest.hexdigest()

    def __del__(self) -> None:
        if hasattr(self, '_file'):
            os.close(self._file)

    def __len__(self) -> int:
        return len(self._ends)

    def Get(self, index: int) -> str:
        """Line `index`, without its end.

        Raises:
          BadRecordError: if it is not UTF-8, or the file is not what it was when it was opened.
        """
        start, end = self._Start(index), int(self._ends[index])
        # With its end, which the last line may lack.
        line = ReadAt(self._file, min(end + 1, self._size) - start, start, self.Where, index)
        if line.find(b'\n') not in (end - start, -1) or (line[-1:] != b'\n' and end < self._size):
            raise BadRecordError(
                f'{self.Where(index)}: its end is not where it was when the file was opened; the '
                'file has changed.'
            )
        line = line[: end - start]
        try:
            text = line.decode('utf-8')
        except UnicodeDecodeError as error:
            raise BadRecordError(
                f'{self.name}, line {index + 1:,} (byte {start + error.start:,}): not UTF-8 '
                f'({error.reason} 0x{line[error.start]:02x}).'
            ) from None
        if index == 0 and text.startswith('\ufeff'):
            text = text[1:]
        return text[:-1] if text.endswith('\r') else text

    def Where(self, index: int) -> str:
        """File, line and byte."""
        return f'{self.name}, line {index + 1:,} (byte {self._Start(index):,})'

    def Fingerprint(self) -> str:
        """A hash of the bytes of the (unpacked) file, as they were when it was opened."""
        return self._fingerprint

    def _Start(self, index: int) -> int:
        if not 0 <= index < len(self._ends):
            raise IndexError(f'{self.name} has {len(self):,} lines, asked for number {index:,}.')
        return int(self._ends[index - 1]) + 1 if index else 0


def ReadAt(file: int, size: int, offset: int, where: Callable[[int], str], index: int) -> bytes:
    """`size` bytes of an open file from `offset` on.

    Args:
      file: its descriptor.
      size: in bytes.
      offset: in bytes.
      where: `Source.Where`, for messages.
      index: of the record that is read, for `where`.

    Raises:
      BadRecordError: if the file ends before, or the disk does not give them.
    """
    data = b''
    while len(data) < size:
        try:
            more = os.pread(file, size - len(data), offset + len(data))
        except OSError as error:
            raise BadRecordError(
                f'{where(index)}: it cannot be read: {error.strerror or error}.'
            ) from None
        if not more:
            raise BadRecordError(f'{where(index)}: the file ends within it.')
        data = data + more if data else more
    return data


def StandardInput() -> Iterator[Union[str, BadRecordError]]:
    r"""Lines of standard input, UTF-8 and ended by \n whatever the locale says.

    A line that is not UTF-8 comes as the error that says so.
    """
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode('utf-8').rstrip('\r\n')
        except UnicodeDecodeError as error:
            yield BadRecordError(
                f'standard input, line {number:,}: not UTF-8 '
                f'({error.reason} 0x{line[error.start]:02x}).'
            )


def FileLines(path: str) -> Iterator[Union[str, BadRecordError]]:
    """The lines of a file as `LineSource` gives them; a bad one as the error that says why."""
    lines = LineSource(path)
    for i in range(len(lines)):
        try:
            yield lines.Get(i)
        except BadRecordError as error:
            yield error


def _Unpacked(path: str) -> str:
    """`path`, or for a .gz file the path of its plain text in the cache."""
    with open(path, 'rb') as file:
        if file.read(2) != b'\x1f\x8b':
            return path

    def _Write(target: str) -> None:
        try:
            with gzip.open(path, 'rb') as packed, open(target, 'wb') as plain:
                shutil.copyfileobj(packed, plain, _BLOCK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f'{path} is cut short or damaged: {error}. Copy it again.') from None

    return cache.Produce(os.path.join('lines', cache.FileHash(path) + '.txt'), _Write)


class IterableSource:
    """Records that can only be read from the beginning: a pipe, a generator, a network stream.

    It promises less than a `Source`. Its records are served window by window, each window being a
    `MemorySource` with all promises of one; but nothing is ever shuffled across windows, every
    worker reads everything, the number of records is not known before the end, and going on from a
    saved position reads and throws away what lies before it (which is the same data only if the
    iterable gives the same records again).
    """

    def __init__(
        self, open_records: Callable[[], Iterable[Union[str, bytes, BadRecordError]]], name: str
    ):
        """Opens nothing yet.

        Args:
          open_records: gives the records from the first one on, each time it is called; an error
            in the place of one that cannot be read.
          name: for error messages.
        """
        self.name = name
        self._open = open_records

    def Windows(self, size: int, start: int = 0) -> Iterator[MemorySource]:
        """Sources of `size` consecutive records (the last one of fewer), from window `start` on.

            records a b c d e, size 2, start 1  ->  [c d], [e]

        They count their bad records together: `max_bad_records` is of the whole stream.

        Raises:
          BadRecordError: if reading the iterable itself fails because text is not UTF-8.
        """
        count = 0
        window: list[Union[str, bytes, BadRecordError]] = []
        bad_ids: set[int] = set()
        records = iter(self._open())
        while True:
            try:
                record = next(records)
            except StopIteration:
                break
            except UnicodeDecodeError as error:
                raise BadRecordError(
                    f'{self.name}, record {count + 1:,} or soon after: not UTF-8 ({error.reason} '
                    f'0x{error.object[error.start]:02x}).'
                ) from None
            count += 1
            if count > start * size:
                window.append(record)
            if len(window) == size:
                yield MemorySource(window, self.name, count - size, bad_ids)
                window = []
        if window:
            yield MemorySource(window, self.name, count - len(window), bad_ids)
