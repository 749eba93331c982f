"""Utterances by index: encoded audio and what was said, from TFRecord files or from a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Callable, NamedTuple

import numpy as np

from lingvo_lite.inputs import cache, examples, records, source
from lingvo_lite.inputs.speech import audio, manifests

LENGTH_NAMES = ('samples', 'sample_rate', 'characters')  # columns of the sidecars
_SHARD_END = re.compile(r'-\d+-of-\d+\.tfrecord$')


class Utterance(NamedTuple):
    """One utterance.

    Attributes:
      id: as its corpus names it.
      audio: the bytes of an audio file.
      transcript: as its corpus writes it; empty where nothing is said or known.
      samples: of each channel, as the index says.
      sample_rate: in hertz.
    """

    id: str
    audio: bytes
    transcript: str
    samples: int
    sample_rate: int


_KINDS = {'id': str, 'audio': bytes, 'transcript': str, 'samples': int, 'sample_rate': int}


def Encode(utterance: Utterance) -> bytes:
    """The payload of a TFRecord: a tf.train.Example with the fields of the utterance."""
    return examples.Encode(utterance._asdict())


def Decode(payload: bytes) -> Utterance:
    """What `Encode` was given.

    Raises:
      ValueError: if the payload is something else.
    """
    return Utterance(**examples.Decode(payload, _KINDS))


def Lengths(utterance: Utterance) -> tuple[int, int, int]:
    """The row of the sidecar, see LENGTH_NAMES."""
    return utterance.samples, utterance.sample_rate, len(utterance.transcript)


class Utterances(source.Source):
    """Utterances that can be read in any order, by any thread.

    Attributes:
      samples: [n] int64, of each channel, at sample_rates; 0 for an utterance that cannot be used,
        for the reason that `Get` or `Problem` gives.
      sample_rates: [n] int64, in hertz; 0 likewise.
      characters: [n] int64, of the transcript.
    """

    samples: np.ndarray
    sample_rates: np.ndarray
    characters: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)

    def Get(self, index: int) -> Utterance:
        """Utterance `index`. Raises BadRecordError if it cannot be read."""
        raise NotImplementedError

    def Problem(self, index: int) -> source.BadRecordError:
        """Why an utterance of no samples cannot be used."""
        return source.BadRecordError(
            f'{self.Where(index)}: its index says {self.samples[index]:,} samples at '
            f'{self.sample_rates[index]:,} Hz.'
        )

    def Text(self, index: int) -> tuple[str, str]:
        """Id and transcript of utterance `index`. Raises BadRecordError."""
        found = self.Get(index)
        return found.id, found.transcript


class RecordUtterances(Utterances):
    """Utterances in TFRecord files, as tools/prepare_librispeech.py writes them."""

    def __init__(self, paths: Sequence[str]):
        """Opens the files.

        Raises:
          FileNotFoundError, ValueError: as `records.RecordSource`, and if the sidecars do not tell
            the lengths.
        """
        # The shards of one split belong together; splits are prepared one by one.
        splits: dict[str, list[str]] = {}
        for path in paths:
            splits.setdefault(_SHARD_END.sub('', path), []).append(path)
        self._splits = [records.RecordSource(own) for own in splits.values()]
        for each in self._splits:
            if each.length_names != LENGTH_NAMES:
                raise ValueError(
                    f'the sidecars of {each.name} hold the columns {each.length_names}; of '
                    f'utterances {LENGTH_NAMES} are wanted. tools/prepare_librispeech.py writes '
                    'them.'
                )
        more = len(paths) - 1
        self.name = f'{paths[0]} (and {more} more)' if more else paths[0]
        self._first = np.cumsum([0] + [len(each) for each in self._splits])
        lengths = np.concatenate([each.lengths for each in self._splits])
        self.samples, self.sample_rates, self.characters = lengths.T.astype(np.int64)

    def Get(self, index: int) -> Utterance:
        """Utterance `index`."""
        split, own = self._Locate(index)
        payload = split.Get(own)
        try:
            found = Decode(payload)
        except ValueError as error:
            raise source.BadRecordError(f'{self.Where(index)}: {error}.') from None
        known = (self.samples[index], self.sample_rates[index], self.characters[index])
        for name, own, noted in zip(LENGTH_NAMES, Lengths(found), known):
            if own != noted:
                raise source.BadRecordError(
                    f'{self.Where(index)}: it has {own:,} {name}, its index says {noted:,}.'
                )
        return found

    def Where(self, index: int) -> str:
        """File, record and byte."""
        split, own = self._Locate(index)
        return split.Where(own)

    def Fingerprint(self) -> str:
        """A hash over the sidecars."""
        return cache.Key('utterances', *[each.Fingerprint() for each in self._splits])

    def _Locate(self, index: int) -> tuple[records.RecordSource, int]:
        """The split of an utterance, and its number there."""
        n = int(np.searchsorted(self._first, index, side='right')) - 1
        return self._splits[n], int(index - self._first[n])


class ManifestUtterances(Utterances):
    """Utterances in audio files that a manifest lists."""

    def __init__(self, path: str):
        """Reads the manifest; raises what `manifests.Manifest` does."""
        self._manifest = manifests.Manifest(path)
        entries = self._manifest.entries
        self._fingerprint = ''
        self.name = path
        self.samples = np.array([e.samples for e in entries], np.int64)
        self.sample_rates = np.array([e.sample_rate for e in entries], np.int64)
        self.characters = np.array([len(e.transcript) for e in entries], np.int64)

    def Get(self, index: int) -> Utterance:
        """Utterance `index`."""
        entry = self._manifest.entries[index]
        data = _ReadFile(self._manifest.Find, index, self.Where(index))
        return Utterance(entry.id, data, entry.transcript, entry.samples, entry.sample_rate)

    def Text(self, index: int) -> tuple[str, str]:
        """Id and transcript; reads no audio."""
        entry = self._manifest.entries[index]
        return entry.id, entry.transcript

    def Problem(self, index: int) -> source.BadRecordError:
        """What is wrong with the audio file."""
        try:
            audio.ReadHeader(self._manifest.Find(index))
        except FileNotFoundError as error:
            return source.BadRecordError(f'{self.Where(index)}: {error}')
        except source.BadRecordError as error:
            return source.BadRecordError(f'{error} ({self.name}, line {index + 2:,})')
        return super().Problem(index)

    def Where(self, index: int) -> str:
        """Audio file, manifest and line."""
        return f'{self._manifest.entries[index].file} ({self.name}, line {index + 2:,})'

    def Fingerprint(self) -> str:
        """A hash of what the manifest says and of the audio files, taken when first asked for."""
        if not self._fingerprint:
            self._fingerprint = self._manifest.Fingerprint()
        return self._fingerprint


class FileUtterances(Utterances):
    """Audio files of one's own, without transcripts; their paths are their ids."""

    def __init__(self, paths: source.Source):
        """Reads the heads of the files. One that is missing or no audio has no samples.

        Args:
          paths: their paths; records that cannot be read are bad utterances.
        """
        self.name, self.first, self.bad_ids = paths.name, paths.first, paths.bad_ids
        self._problems: dict[int, source.BadRecordError] = {}
        self._paths: list[str] = []
        lengths = [self._Open(paths, i) for i in range(len(paths))]
        self.samples, self.sample_rates = np.array(lengths, np.int64).reshape(-1, 2).T
        self.characters = np.zeros(len(self._paths), np.int64)

    def _Open(self, paths: source.Source, index: int) -> tuple[int, int]:
        """(samples, rate) of a file."""
        self._paths.append(paths.Where(index))
        try:
            self._paths[index] = paths.Get(index)
            return manifests.Length(self._paths[index])
        except source.BadRecordError as error:
            self._problems[index] = error
            return 0, 0

    def Problem(self, index: int) -> source.BadRecordError:
        """What was wrong with the head of the file."""
        return self._problems[index]

    def Get(self, index: int) -> Utterance:
        """The file."""
        path = self._paths[index]
        data = _ReadFile(lambda _: path, index, path)
        samples, rate = int(self.samples[index]), int(self.sample_rates[index])
        return Utterance(path, data, '', samples, rate)

    def Text(self, index: int) -> tuple[str, str]:
        """The path and nothing."""
        return self._paths[index], ''

    def Where(self, index: int) -> str:
        """The path."""
        return self._paths[index]

    def Fingerprint(self) -> str:
        """A hash of the paths and lengths."""
        return cache.Key('files', self._paths, self.samples.tolist())


def _ReadFile(find: Callable[[int], str], index: int, where: str) -> bytes:
    try:
        with open(find(index), 'rb') as file:
            return file.read()
    except FileNotFoundError as error:
        reason = error.strerror or str(error)
        raise source.BadRecordError(f'{where}: {reason.rstrip(".")}.') from None
    except OSError as error:
        raise source.BadRecordError(f'{where}: {error.strerror or error}.') from None
