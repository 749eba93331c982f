"""Word and character error rates, by jiwer, with the counts that they are made of."""

from __future__ import annotations

import abc
import importlib.metadata
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Union

import jiwer

from lingvo_lite.metrics import base

if TYPE_CHECKING:
    from typing_extensions import Self


class Chunk(NamedTuple):
    """A stretch of an alignment.

    Attributes:
      kind: 'equal', 'substitute' (as many units on both sides), 'delete' (nothing in the
        hypothesis) or 'insert' (nothing in the reference).
      reference: the units of the reference.
      hypothesis: the units of the hypothesis.
    """

    kind: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


class Edits(NamedTuple):
    """What it takes to turn a reference into a hypothesis.

    Attributes:
      hits: units that are right.
      substitutions: units of the reference that another one stands for.
      deletions: units of the reference that are missing.
      insertions: units of the hypothesis that the reference does not have.
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """substitutions + deletions + insertions: the edit distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    def Plus(self, other: Edits) -> Edits:
        """The edits of both."""
        return Edits(*(mine + theirs for mine, theirs in zip(self, other)))


def Align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Chunk]:
    """An alignment with the fewest edits.

    Args:
      reference: units: words or characters.
      hypothesis: the same.

    Returns:
      Chunks that, one behind the other, make up both sides.
    """
    reference, hypothesis = tuple(reference), tuple(hypothesis)
    if not reference:  # jiwer before 4 refuses it
        return [Chunk('insert', (), hypothesis)] if hypothesis else []
    # Each unit stands as one word, whatever it is made of.
    numbers: dict[str, str] = {}
    one, other = (
        ' '.join(numbers.setdefault(unit, str(len(numbers))) for unit in side)
        for side in (reference, hypothesis)
    )
    (chunks,) = jiwer.process_words(one, other).alignments
    return [
        Chunk(
            chunk.type,
            reference[chunk.ref_start_idx : chunk.ref_end_idx],
            hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx],
        )
        for chunk in chunks
    ]


def Count(alignment: Sequence[Chunk]) -> Edits:
    """The edits of an alignment."""
    counts = {'equal': 0, 'substitute': 0, 'delete': 0, 'insert': 0}
    for chunk in alignment:
        counts[chunk.kind] += max(len(chunk.reference), len(chunk.hypothesis))
    return Edits(counts['equal'], counts['substitute'], counts['delete'], counts['insert'])


class _ErrorRate(base.BaseMetric):
    """(substitutions + deletions + insertions) / units of the references, over all utterances.

    1.0 is 100%; more is possible. Utterances with an empty reference count: all that is heard in
    them is inserted. If no reference has any unit, the value is the number of errors.

    Summary: NAME; NAME/substitutions, NAME/deletions, NAME/insertions, NAME/reference_UNITS,
    NAME/utterances, NAME/wrong_utterances (with any error); and NAME/signature, which says what was
    normalised.
    """

    larger_is_better = False

    units = ''

    def __init__(self, name: str, lowercase: bool = False, remove_punctuation: bool = False):
        """Takes what is normalised on both sides besides white space, as the signature says.

        Args:
          name: in summaries.
          lowercase: whether case does not count.
          remove_punctuation: whether all punctuation but the apostrophe inside of a word is
            dropped.
        """
        super().__init__(name)
        self._lowercase = lowercase
        self._remove_punctuation = remove_punctuation
        self._edits = Edits()
        self._utterances = 0
        self._wrong = 0

    @abc.abstractmethod
    def Units(self, text: str) -> tuple[str, ...]:
        """The normalised text as the units that are counted."""

    def Update(self, hypothesis: str, reference: str) -> Edits:
        """Adds one utterance.

        Args:
          hypothesis: what was recognised; may be empty.
          reference: what was said; may be empty.

        Returns:
          The edits of this utterance.

        Raises:
          TypeError: if one of them is no str.
        """
        for text in (hypothesis, reference):
            if not isinstance(text, str):
                raise TypeError(
                    f'{self.name} compares texts (str), got {text!r} ({type(text).__name__}). '
                    'Decode token ids first.'
                )
        edits = Count(Align(self.Units(reference), self.Units(hypothesis)))
        self._edits = self._edits.Plus(edits)
        self._utterances += 1
        self._wrong += edits.errors > 0
        return edits

    def Merge(self, other: Self) -> None:
        self._CheckMergeable(other)
        if other.signature != self.signature:
            raise ValueError(
                f'{self.name}: scores with {self.signature} and {other.signature} cannot be merged.'
            )
        self._edits = self._edits.Plus(other._edits)
        self._utterances += other._utterances
        self._wrong += other._wrong

    @property
    def value(self) -> float:
        if not self._utterances:
            raise self._Empty()
        return self._edits.errors / max(1, self._edits.reference_length)

    @property
    def edits(self) -> Edits:
        """Of all utterances."""
        return self._edits

    @property
    def signature(self) -> str:
        """Units, what was normalised, and the version of jiwer."""
        case = 'lc' if self._lowercase else 'mixed'
        punctuation = 'no' if self._remove_punctuation else 'yes'
        version = importlib.metadata.version('jiwer')
        return f'unit:{self.units}|case:{case}|punct:{punctuation}|space:single|jiwer:{version}'

    def Summary(self) -> dict[str, Union[float, str]]:
        if not self._utterances:
            return {}
        edits = self._edits
        return {
            self.name: self.value,
            f'{self.name}/substitutions': edits.substitutions,
            f'{self.name}/deletions': edits.deletions,
            f'{self.name}/insertions': edits.insertions,
            f'{self.name}/reference_{self.units}': edits.reference_length,
            f'{self.name}/utterances': self._utterances,
            f'{self.name}/wrong_utterances': self._wrong,
            f'{self.name}/signature': self.signature,
        }

    def _Normalized(self, text: str) -> str:
        if self._lowercase:
            text = text.lower()
        if self._remove_punctuation:
            text = without_punctuation(text)
        return ' '.join(text.split())


class Wer(_ErrorRate):
    """Word error rate; words are what stands between white space."""

    units = 'words'

    def __init__(
        self, name: str = 'wer', lowercase: bool = False, remove_punctuation: bool = False
    ):
        super().__init__(name, lowercase, remove_punctuation)

    def Units(self, text: str) -> tuple[str, ...]:
        """The words of the normalised text."""
        return tuple(self._Normalized(text).split())


class Cer(_ErrorRate):
    """Character error rate; one space between two words counts as a character."""

    units = 'characters'

    def __init__(
        self, name: str = 'cer', lowercase: bool = False, remove_punctuation: bool = False
    ):
        super().__init__(name, lowercase, remove_punctuation)

    def Units(self, text: str) -> tuple[str, ...]:
        """The characters of the normalised text."""
        return tuple(self._Normalized(text))


def without_punctuation(text: str) -> str:
    """Text whose punctuation (Unicode P*) has become white space; "don't" and 'd’or' stay whole."""
    text = re.sub(r"(?<=\w)['\u2019](?=\w)", '\0', text)
    kept = (' ' if unicodedata.category(c).startswith('P') else c for c in text)
    return ''.join(kept).replace('\0', "'")
