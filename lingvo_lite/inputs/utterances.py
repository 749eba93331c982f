"""Utterances by index: encoded audio and what was said, from TFRecord files or from a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import numpy as np

from lingvo_lite.inputs import audio, cache, manifests, records, source

LENGTH_NAMES = ('samples', 'sample_rate', 'characters')  # columns of the sidecars
_SHARD_END = re.compile(r'-\d+-of-\d+\.tfrecord$')


class Utterance(NamedTuple):
    """One utterance.

    Attributes:
      id: as its corpus names it.
      audio: the bytes of a FLAC, WAV or MP3 file.
      transcript: as its corpus writes it; empty where nothing is said or known.
      samples: of each channel, as the index says.
      sample_rate: in hertz.
    """

    id: str
    audio: bytes
    transcript: str
    samples: int
    sample_rate: int


def Encode(utterance: Utterance) -> bytes:
    """The payload of a TFRecord: a tf.train.Example with the fields of the utterance."""
    import tensorflow as tf

    def _Feature(value: Union[bytes, str, int]) -> Any:
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        data = value.encode('utf-8') if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))

    feature = {name: _Feature(value) for name, value in utterance._asdict().items()}
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def Decode(payload: bytes) -> Utterance:
    """What `Encode` was given.

    Raises:
      ValueError: if the payload is something else.
    """
    import tensorflow as tf
    from google.protobuf import message

    try:
        feature = tf.train.Example.FromString(payload).features.feature
        return Utterance(
            feature['id'].bytes_list.value[0].decode('utf-8'),
            feature['audio'].bytes_list.value[0],
            feature['transcript'].bytes_list.value[0].decode('utf-8'),
            feature['samples'].int64_list.value[0],
            feature['sample_rate'].int64_list.value[0],
        )
    except (message.DecodeError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f'no tf.train.Example with {Utterance._fields}: {error}') from None


def Lengths(utterance: Utterance) -> tuple[int, int, int]:
    """The row of the sidecar, see LENGTH_NAMES."""
    return utterance.samples, utterance.sample_rate, len(utterance.transcript)


class Utterances(source.Source):
    """Utterances that can be read in any order, by any thread.

    Attributes:
      samples: [n] int64, of each channel, at sample_rates.
      sample_rates: [n] int64, in hertz.
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
            return Decode(payload)
        except ValueError as error:
            raise source.BadRecordError(f'{self.Where(index)}: {error}.') from None

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

    def Where(self, index: int) -> str:
        """Audio file, manifest and line."""
        return f'{self._manifest.entries[index].file} ({self.name}, line {index + 2:,})'

    def Fingerprint(self) -> str:
        """A hash of what the manifest says."""
        return cache.Key('manifest', self._manifest.entries)


class FileUtterances(Utterances):
    """Audio files of one's own, without transcripts; their paths are their ids."""

    def __init__(self, paths: Sequence[str], name: str):
        """Reads the heads of the files.

        Raises:
          BadRecordError: if one is missing, empty, cut short, or no audio.
        """
        self.name, self._paths = name, list(paths)
        headers = [audio.ReadHeader(path) for path in self._paths]
        self.sample_rates = np.array([h.rate for h in headers], np.int64)
        self.samples = np.array(
            [h.num_samples or len(audio.ReadFile(p, h.rate)) for h, p in zip(headers, paths)],
            np.int64,
        )
        self.characters = np.zeros(len(self._paths), np.int64)

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


def _ReadFile(find: Any, index: int, where: str) -> bytes:
    try:
        with open(find(index), 'rb') as file:
            return file.read()
    except FileNotFoundError as error:
        reason = error.strerror or str(error)
        raise source.BadRecordError(f'{where}: {reason.rstrip(".")}.') from None
    except OSError as error:
        raise source.BadRecordError(f'{where}: {error.strerror or error}.') from None
