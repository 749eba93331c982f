"""What the ids of a run mean: vocabulary.txt, a hash, and tokens.json, the text of each id."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from lingvo_lite import hyperparams
from lingvo_lite.runs import atomic


class Vocabulary(NamedTuple):
    """The tokens of a model.

    Attributes:
      fingerprint: equal only if all ids mean the same.
      tokens: the text of each id; [] where that is not known.
    """

    fingerprint: str
    tokens: Sequence[str] = ()


def Read(run: str) -> Optional[Vocabulary]:
    """That of a log directory; None if it noted none."""
    try:
        with open(_HashFile(run), encoding='utf-8') as file:
            fingerprint = file.read().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with open(_TokensFile(run), encoding='utf-8') as file:
            tokens = list(map(str, json.load(file)))
    except (FileNotFoundError, ValueError):  # of a run of before, or damaged: then they say nothing
        tokens = []
    return Vocabulary(fingerprint, tokens)


def Write(run: str, vocabulary: Vocabulary) -> None:
    """Notes the vocabulary of a run, once."""
    if vocabulary.fingerprint and not os.path.exists(_HashFile(run)):
        atomic.Write(_HashFile(run), vocabulary.fingerprint + '\n')
    if vocabulary.tokens and not os.path.exists(_TokensFile(run)):
        lines = ',\n'.join(json.dumps(token, ensure_ascii=False) for token in vocabulary.tokens)
        atomic.Write(_TokensFile(run), f'[{lines}]\n')


def Check(run: str, fingerprint: str) -> None:
    """Checks that ids mean what they meant when a run was trained.

    Args:
      run: the log directory; one without a vocabulary allows any.
      fingerprint: of the tokenizer at hand, '' for an input without one.

    Raises:
      hyperparams.ConfigError: if it is another one.
    """
    known = Read(run)
    if known is not None and known.fingerprint != fingerprint:
        raise hyperparams.ConfigError(
            f'{run} was trained with the vocabulary {known.fingerprint}, this one is '
            f'{fingerprint or "none"}: its ids mean other tokens. Bring back the vocabulary file, '
            'or the text that it was trained on.'
        )


def RunOf(prefix: str) -> str:
    """The log directory that a checkpoint lies in: RUN of RUN/train/ckpt-00001000."""
    return os.path.dirname(os.path.dirname(os.path.abspath(prefix)))


def SameTokens(mine: Sequence[str], theirs: Sequence[str]) -> np.ndarray:
    """Where each of my tokens stands among theirs.

    Args:
      mine, theirs: texts of ids. One that stands for several ids is no token's name.

    Returns:
      int [len(mine)], -1 for a token that they do not have.
    """
    unique = [token for token, count in Counter(theirs).items() if token and count == 1]
    at = {token: i for i, token in enumerate(theirs)}
    at = {token: at[token] for token in unique}
    often = Counter(mine)
    return np.array([at.get(token, -1) if often[token] == 1 else -1 for token in mine], np.int64)


def _HashFile(run: str) -> str:
    return os.path.join(run, 'vocabulary.txt')


def _TokensFile(run: str) -> str:
    return os.path.join(run, 'tokens.json')
