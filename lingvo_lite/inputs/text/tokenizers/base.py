"""What every tokenizer offers, and the four special tokens.

All give 0 to padding, 1 to <s>, 2 to </s> and 3 to what is unknown. `Encode` adds none of these;
inputs do.

A tokenizer whose params name `train_files` and no finished vocabulary trains itself when it is
first built, into `tokenizers/` of the cache folder (see cache.py). The name of the vocabulary holds
a hash of the text and the params that it was trained with, and training is deterministic, so a
vocabulary that was deleted comes back the same with the same version of SentencePiece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from absl import logging

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import source

PAD_ID, BOS_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
NUM_SPECIAL = 4
_SPECIAL = ('<pad>', '<s>', '</s>', '<unk>')


class BaseTokenizer:
    """What every tokenizer offers.

    Attributes:
      vocab_size: number of ids, the four special ones included.
      samples: whether `Sample` differs from `Encode`.
    """

    pad_id, bos_id, eos_id, unk_id = PAD_ID, BOS_ID, EOS_ID, UNK_ID
    vocab_size: int
    samples = False

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        return hyperparams.InstantiableParams(cls)

    def __init__(self, params: hyperparams.Params):
        self.params = params

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without <s> and </s>."""
        raise NotImplementedError

    def Sample(self, texts: Sequence[str], seeds: Sequence[int]) -> list[list[int]]:
        """As `Encode`, with a random segmentation that depends on text and seed alone."""
        del seeds
        return self.Encode(texts)

    def Decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence, up to its first </s>; special ids but unknown are left out."""
        return [self._Text(_Plain(row)) for row in ids]

    def Tokens(self) -> list[str]:
        """The text of each id; '' for those that are no text.

        A token that begins a word has a space or a '\u2581' in front, unless the space is a token
        of its own. What stands for no one text, such as the unknown, is '\ufffd' or '<unk>'.
        """
        raise NotImplementedError(f'{type(self).__name__}.Tokens')

    def Fingerprint(self) -> str:
        """A hash that is equal only if `Encode` gives the same ids for every text."""
        raise NotImplementedError

    def SampleFingerprint(self) -> str:
        """The same of `Sample`."""
        return self.Fingerprint()

    def _Text(self, ids: list[int]) -> str:
        raise NotImplementedError


def NamedTokens(tokenizer: BaseTokenizer) -> list[str]:
    """`tokenizer.Tokens()` with names for the four special ones; [] if it cannot say them."""
    try:
        tokens = list(tokenizer.Tokens())
    except NotImplementedError:
        return []
    return [*_SPECIAL, *tokens[NUM_SPECIAL:]]


def _Plain(row: Sequence[int]) -> list[int]:
    ids = [int(i) for i in row]
    if EOS_ID in ids:
        ids = ids[: ids.index(EOS_ID)]
    return [i for i in ids if i not in (PAD_ID, BOS_ID)]


def Lines(sources: Sequence[source.LineSource]) -> Iterator[str]:
    """All lines of all sources but the bad ones, which the input that serves them counts."""
    for lines in sources:
        for i in range(len(lines)):
            try:
                yield lines.Get(i)
            except source.BadRecordError as error:
                logging.warning('%s Not used to train the vocabulary.', error)


def SampleSeeds(ids: Sequence[int], *key: int) -> list[int]:
    """32-bit seeds for `Sample`, each a function of the id of an example and of `key` alone."""
    start = hashlib.blake2b(repr(key).encode(), digest_size=4)
    seeds = []
    for i in ids:
        one = start.copy()
        one.update(int(i).to_bytes(8, 'little', signed=True))
        seeds.append(int.from_bytes(one.digest(), 'little'))
    return seeds
