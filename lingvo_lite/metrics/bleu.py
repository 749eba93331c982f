"""BLEU and chrF of a corpus, by sacrebleu, with the signature that makes them comparable.

Post 2018, "A Call for Clarity in Reporting BLEU Scores", https://aclanthology.org/W18-6319
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Optional, Union

from sacrebleu.metrics import BLEU, CHRF

from lingvo_lite.metrics import base

if TYPE_CHECKING:
    from typing_extensions import Self


class _SacreMetric(base.BaseMetric):
    """A corpus metric of sacrebleu, over strings as a reader sees them: detokenized text.

    Keeps all hypotheses and references. Summary: NAME, the score between 0 and 100, and
    NAME/signature.
    """

    larger_is_better = True

    def __init__(self, name: str, **options: Any):
        super().__init__(name)
        self._options = options
        self._hypotheses: list[str] = []
        self._references: list[list[str]] = []
        self._scored: Optional[tuple[float, str]] = None

    @abc.abstractmethod
    def _NewScorer(self) -> Union[BLEU, CHRF]:
        """The object of sacrebleu that does the work."""

    def Update(self, hypothesis: str, references: Union[str, list[str]]) -> None:
        """Adds one sentence.

        Args:
          hypothesis: detokenized text; may be empty.
          references: the reference or, where there are several, all of them. Their number may
            differ between sentences; the signature then says nrefs:var.

        Raises:
          TypeError: if anything is not a str.
          ValueError: if there is no reference.
        """
        references = [references] if isinstance(references, str) else list(references)
        for text in (hypothesis, *references):
            if not isinstance(text, str):
                raise TypeError(
                    f'{self.name} scores detokenized text (str), got {text!r} '
                    f'({type(text).__name__}). Decode token ids first.'
                )
        if not references:
            raise ValueError(f'{self.name}: no reference for {hypothesis!r}.')
        self._hypotheses.append(hypothesis)
        self._references.append(references)
        self._scored = None

    def Merge(self, other: Self) -> None:
        self._CheckMergeable(other)
        if other._options != self._options:
            raise ValueError(
                f'{self.name}: scores with {self._options} and {other._options} cannot be merged.'
            )
        self._hypotheses += other._hypotheses
        self._references += other._references
        self._scored = None

    @property
    def value(self) -> float:
        return self._Scored()[0]

    @property
    def signature(self) -> str:
        """How the score was computed: number of references, case, tokenization, version, ..."""
        return self._Scored()[1]

    def Summary(self) -> dict[str, Union[float, str]]:
        if not self._hypotheses:
            return {}
        return {self.name: self.value, f'{self.name}/signature': self.signature}

    def _Scored(self) -> tuple[float, str]:
        if not self._hypotheses:
            raise self._Empty()
        if self._scored is None:
            scorer = self._NewScorer()
            # sacrebleu takes one list for each number of a reference, None where there is none.
            count = max(len(references) for references in self._references)
            streams: list[Any] = [
                [refs[i] if i < len(refs) else None for refs in self._references]
                for i in range(count)
            ]
            score = scorer.corpus_score(self._hypotheses, streams).score
            self._scored = float(score), scorer.get_signature().format()
        return self._scored


class CorpusBleu(_SacreMetric):
    """BLEU (Papineni et al. 2002) with sacrebleu's defaults: exponential smoothing, 4-grams."""

    def __init__(self, name: str = 'bleu', tokenize: str = '13a', lowercase: bool = False):
        """Takes what the signature will show.

        Args:
          name: in summaries.
          tokenize: sacrebleu's tokenizer: '13a' as at WMT, 'zh', 'ja-mecab', 'char', 'none', ...
          lowercase: whether case does not count.
        """
        super().__init__(name, tokenize=tokenize, lowercase=lowercase)

    def _NewScorer(self) -> BLEU:
        return BLEU(**self._options)


class ChrF(_SacreMetric):
    """chrF (Popović 2015): F-score of character 6-grams, beta 2; chrF++ with word_order=2."""

    def __init__(self, name: str = 'chrf', word_order: int = 0):
        super().__init__(name, word_order=word_order)

    def _NewScorer(self) -> CHRF:
        return CHRF(**self._options)
