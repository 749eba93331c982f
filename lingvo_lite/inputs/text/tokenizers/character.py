"""Characters as tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import cache, data_files, run_files, source
from lingvo_lite.inputs.text.tokenizers.base import (
    NUM_SPECIAL,
    UNK_ID,
    BaseTokenizer,
    Lines,
)


class CharacterTokenizer(BaseTokenizer):
    """Unicode characters: those listed, or those that occur in some files, by code point."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('characters', '', 'The characters that get an id. Empty: those of train_files.')
        p.Define(
            'train_files',
            [],
            'Line files, relative to the data folder, whose characters get an id.',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError unless exactly one of characters and train_files is set."""
        if bool(p.characters) == bool(p.train_files):
            raise hyperparams.Fail(p, 'set either characters or train_files.')

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self._characters = sorted(set(params.characters)) or self._Collected()
        self._ids = {c: i for i, c in enumerate(self._characters, NUM_SPECIAL)}
        self.vocab_size = NUM_SPECIAL + len(self._characters)

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [[self._ids.get(c, UNK_ID) for c in text] for text in texts]

    def Tokens(self) -> list[str]:
        """The characters."""
        return ['', '', '', '\ufffd', *self._characters]

    def Fingerprint(self) -> str:
        """A hash of the characters."""
        return 'characters-' + cache.Key(self._characters)

    def _Text(self, ids: list[int]) -> str:
        known = range(NUM_SPECIAL, self.vocab_size)  # a model may have more tokens than these
        return ''.join(self._characters[i - NUM_SPECIAL] if i in known else '\ufffd' for i in ids)

    def _Collected(self) -> list[str]:
        files = list(self.params.train_files)
        path = run_files.Path(run_files.Name('characters.json', files), self._Collect)
        with open(path, encoding='utf-8') as file:
            return json.load(file)

    def _Collect(self) -> str:
        sources = [source.LineSource(data_files.FindData(name)) for name in self.params.train_files]
        key = cache.Key('characters', [s.Fingerprint() for s in sources])

        def _Write(path: str) -> None:
            found: set[str] = set()
            for line in Lines(sources):
                found.update(line)
            with open(path, 'w', encoding='utf-8') as file:
                json.dump(sorted(found), file)

        return cache.Produce(f'tokenizers/{key}.characters.json', _Write)
