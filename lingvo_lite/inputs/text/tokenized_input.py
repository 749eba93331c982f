"""What inputs share whose examples are records of a source, and whose text becomes ids."""

from __future__ import annotations

import numpy as np
from absl import logging

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import pipeline, source
from lingvo_lite.inputs.text import tokenizers


class TokenizedInput(pipeline.BaseInput):
    """The examples of a source, by index.

    Attributes:
      tokenizer: of all their text.
    """

    _held: source.Source

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define(
            'tokenizer',
            tokenizers.ByteTokenizer.Params(),
            'Turns text into ids.',
            bound=tokenizers.BaseTokenizer,
        )
        return p

    def __init__(self, params: hyperparams.Params, held: source.Source):
        super().__init__(params)
        self.tokenizer: tokenizers.BaseTokenizer = params.tokenizer.Instantiate()
        self._held = held
        total = held.first + len(held)
        self._bad = source.BadRecords(params.max_bad_records, total, held.bad_ids, held.first)

    def NumExamples(self) -> int:
        """Number of examples, those that training skips included."""
        return len(self._held)

    def Vocabulary(self) -> str:
        """The tokenizer's fingerprint."""
        return self.tokenizer.Fingerprint()

    def Tokens(self) -> list[str]:
        """The tokenizer's tokens."""
        return tokenizers.NamedTokens(self.tokenizer)

    def Where(self, index: int) -> str:
        """File and record of an example."""
        return self._held.Where(index)

    def Fingerprint(self) -> str:
        """A hash of the examples."""
        return self._held.Fingerprint()

    def _Files(self) -> str:
        return self._held.name

    def _WarnOfEmpty(self, empty: np.ndarray, what: str, train: bool) -> None:
        """A warning line if there are examples without text.

        Args:
          empty: [examples] bool.
          what: 'examples have an empty side', say.
          train: whether they are left out, as in training.
        """
        if empty.any():
            logging.warning(
                '%s of %s %s%s. First: %s.',
                *(f'{n:,}' for n in (int(empty.sum()), len(empty))),
                what,
                ' and are not trained on' if train else '; they are kept',
                self.Where(int(np.argmax(empty))),
            )
