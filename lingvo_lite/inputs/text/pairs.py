"""Sentence pairs: from two line files, or from TFRecord files made by a prepare tool."""

from __future__ import annotations

from collections.abc import Sequence

from lingvo_lite.inputs import cache, examples, records, source

LENGTH_NAMES = ('source', 'target')  # columns of the sidecars that prepare tools write


def EncodePair(source_text: str, target_text: str) -> bytes:
    """A sentence pair as the payload of a TFRecord: a tf.train.Example of two strings."""
    return examples.Encode({'source': source_text, 'target': target_text})


def DecodePair(payload: bytes) -> tuple[str, str]:
    """What `EncodePair` was given.

    Raises:
      ValueError: if the payload is something else.
    """
    found = examples.Decode(payload, {'source': str, 'target': str})
    return found['source'], found['target']


class LinePairs(source.Source):
    """Two line files, line i of one being the translation of line i of the other."""

    def __init__(self, source_path: str, target_path: str):
        """Opens both.

        Raises:
          ValueError: if one is empty, or they have different numbers of lines.
        """
        self._sides = (source.LineSource(source_path), source.LineSource(target_path))
        counts = [len(side) for side in self._sides]
        self.name = f'{source_path} | {target_path}'
        if counts[0] != counts[1]:
            raise ValueError(
                f'{source_path} has {counts[0]:,} lines and {target_path} {counts[1]:,}. Line i of '
                'one must be the translation of line i of the other: find the lines that were '
                'lost, or pair the files again.'
            )

    def __len__(self) -> int:
        return len(self._sides[0])

    def Get(self, index: int) -> tuple[str, ...]:
        """Source and target of pair `index`."""
        return tuple(side.Get(index).strip() for side in self._sides)

    def Where(self, index: int) -> str:
        """File and line of the source."""
        return self._sides[0].Where(index)

    def Fingerprint(self) -> str:
        """A hash of both files."""
        return cache.Key('pairs', [side.Fingerprint() for side in self._sides])


class RecordPairs(source.Source):
    """Sentence pairs in TFRecord files, as tools/prepare_wmt.py writes them."""

    def __init__(self, paths: Sequence[str]):
        """Opens the files; raises what `records.RecordSource` does."""
        self.records = records.RecordSource(paths)
        self.name = self.records.name

    def __len__(self) -> int:
        return len(self.records)

    def Get(self, index: int) -> tuple[str, ...]:
        """Source and target of pair `index`."""
        try:
            return tuple(text.strip() for text in DecodePair(self.records.Get(index)))
        except source.BadRecordError:
            raise
        except ValueError as error:
            raise source.BadRecordError(f'{self.Where(index)}: {error}.') from None

    def Where(self, index: int) -> str:
        """File, record and byte."""
        return self.records.Where(index)

    def Fingerprint(self) -> str:
        """A hash over the sidecars."""
        return cache.Key('records', self.records.Fingerprint())
