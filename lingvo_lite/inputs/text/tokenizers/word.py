"""Words of a small vocabulary as tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import cache
from lingvo_lite.inputs.text.tokenizers.base import (
    NUM_SPECIAL,
    UNK_ID,
    BaseTokenizer,
)

_WORD = re.compile(r'[^ \t\r\n]+')


class WordTokenizer(BaseTokenizer):
    """Words of a small vocabulary, in the order listed.

    Spaces, tabs and ends of lines stand between words; a no-break space is part of one.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('words', [], 'The words that get an id.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if there is no word, or one is given twice or is none."""
        once = bool(p.words) and len(set(p.words)) == len(p.words)
        hyperparams.Require(p, once, 'words', 'words, each once')
        for word in p.words:
            if _WORD.findall(word) != [word]:
                raise hyperparams.Fail(p, f'words: {word!r} is not one word.', 'words')

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._ids = {word: i for i, word in enumerate(params.words, NUM_SPECIAL)}
        self.vocab_size = NUM_SPECIAL + len(params.words)

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [[self._ids.get(word, UNK_ID) for word in _WORD.findall(text)] for text in texts]

    def Tokens(self) -> list[str]:
        """The words, each with a space in front."""
        return ['', '', '', *(f' {word}' for word in ['\ufffd', *self.params.words])]

    def Fingerprint(self) -> str:
        """A hash of the words."""
        return 'words-' + cache.Key(list(self.params.words))

    def _Text(self, ids: list[int]) -> str:
        words, known = self.params.words, range(NUM_SPECIAL, self.vocab_size)
        return ' '.join(words[i - NUM_SPECIAL] if i in known else '\ufffd' for i in ids)
