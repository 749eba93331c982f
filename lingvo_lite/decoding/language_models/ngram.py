"""Back-off n-gram models as language models of a search: of its tokens, or of spelled words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from lingvo_lite import hyperparams
from lingvo_lite.decoding import scorers
from lingvo_lite.decoding.language_models import arpa, backoff, fusion
from lingvo_lite.hyperparams import Self
from lingvo_lite.nested_map import NestedMap

_FEW = 0.5  # share of words or tokens that are known, below which something is wrong
_OFF = -1  # spelled is what no word of the model begins with


class _NGram(fusion.LanguageModel):
    """What n-gram models share."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = hyperparams.InstantiableParams(cls)
        p.Define(
            'file',
            hyperparams.REQUIRED,
            'ARPA file, plain or .gz, relative to the data folder.',
            type=str,
            resume='free',
        )
        return p

    def __init__(
        self,
        params: hyperparams.Params,
        vocabulary: fusion.Vocabulary,
        find_data: Callable[[str], str],
    ):
        """Reads the file, of which only the automaton is kept.

        Args:
          params: say which file.
          vocabulary: of the search.
          find_data: turns the name of the file into its path, as inputs.data_files.FindData does.

        Raises:
          FileNotFoundError, ValueError: if there is no such file, it is damaged (`arpa.ArpaError`,
            with the line), or it has nothing to do with the vocabulary.
        """
        self.params = params
        self.bos_id, self.eos_id = vocabulary.bos_id, vocabulary.eos_id
        self._path = find_data(params.file)
        exists = np.array([bool(token) for token in vocabulary.tokens])
        exists[self.eos_id] = True
        with tf.init_scope():
            self._penalty = tf.constant(np.where(exists, 0, scorers.IMPOSSIBLE).astype(np.float32))
        model = arpa.Read(self._path)
        self._automaton = backoff.BackoffAutomaton(model)
        self._Match(vocabulary.tokens, model, {word: i for i, word in enumerate(model.words)})

    def _Match(self, tokens: Sequence[str], model: arpa.Arpa, numbers: Mapping[str, int]) -> None:
        """Keeps what tokens are to the automaton.

        Args:
          tokens: the texts of the vocabulary.
          model: what the file says.
          numbers: {word: its number in the model}.
        """
        raise NotImplementedError(f'{type(self).__name__}._Match')


class TokenNGram(_NGram):
    """An n-gram model whose words are the tokens of the search: characters, pieces or words."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('space_symbol', '<space>', "What the file has for the token ' '.", resume='free')
        return p

    def _Match(self, tokens: Sequence[str], model: arpa.Arpa, numbers: Mapping[str, int]) -> None:
        unknown = numbers[arpa.UNK]
        # Words of a file have no spaces: a token that is a word with one in front is that word.
        texts = [self.params.space_symbol if token == ' ' else token.strip(' ') for token in tokens]
        words = [numbers.get(text, unknown) for text in texts]
        if all(word == unknown for word in words):
            raise ValueError(
                f'{self._path} has none of the {sum(map(bool, tokens))} tokens of the vocabulary, '
                f'such as {_Some(texts)}; it has {_Some(model.words)}. For a model of words use '
                'ngram.WordNGram.'
            )
        known = [text for text, word in zip(texts, words) if text and word != unknown]
        lacking = [text for text, word in zip(texts, words) if text and word == unknown]
        if len(known) < _FEW * (len(known) + len(lacking)):
            logging.warning(
                '%s has %s of the tokens of the vocabulary, such as %s; it lacks %s, which count '
                'as %s.',
                self._path,
                _Share(len(known), len(known) + len(lacking)),
                _Some(known),
                _Some(lacking),
                arpa.UNK,
            )
        words[self.bos_id] = numbers.get(arpa.BOS, unknown)
        words[self.eos_id] = numbers.get(arpa.EOS, unknown)
        with tf.init_scope():
            self._words = tf.constant(np.array(words, np.int64))

    def InitStates(self, rows: tf.Tensor) -> NestedMap:
        return NestedMap(ngram=tf.zeros([rows], tf.int64))

    def ExtendStep(self, ids: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        _, states = self._automaton.Step(state.ngram, tf.gather(self._words, ids))
        vocab = self._words.shape[0]
        # [rows] -> [rows * vocab]: every token at every state.
        words = tf.tile(self._words, [tf.size(states)])
        log_probs, _ = self._automaton.Step(tf.repeat(states, vocab), words)
        return tf.reshape(log_probs, [-1, vocab]) + self._penalty, NestedMap(ngram=states)


class WordNGram(_NGram):
    """An n-gram model of words, for a search over characters.

    A word is scored where it ends, at a space or </s>; the characters inside of it add nothing. A
    word that the model does not have counts as <unk>.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define(
            'lowercase',
            False,
            'Whether the words of the file are spelled in lower case. Of those that then are '
            'spelled alike the most probable one counts.',
            resume='free',
        )
        return p

    def _Match(self, tokens: Sequence[str], model: arpa.Arpa, numbers: Mapping[str, int]) -> None:
        letters = {token: i for i, token in enumerate(tokens) if token}
        longer = [token for token in letters if len(token) > 1]
        if longer or ' ' not in letters:
            raise ValueError(
                'A language model of words needs tokens that are single characters, the space '
                f'among them; these have {_Some(longer) if longer else "no space"}. Use a model '
                'of these tokens: ngram.TokenNGram.'
            )
        self._vocab = len(tokens)
        lexicon = _Lexicon(model, letters, self._vocab, self.params.lowercase)
        if not len(lexicon.keys):
            raise ValueError(
                f'{self._path}: the tokens, such as {_Some(list(letters))}, spell none of its '
                f'words, such as {_Some(model.words)}. If only the case differs, set '
                'lowercase=True.'
            )
        total = lexicon.num_spelled + len(lexicon.odd)
        if lexicon.num_spelled < _FEW * total:
            logging.warning(
                'The tokens spell %s of the words of %s, and none of %s; a search never finds '
                'these. If only the case differs, set lowercase=True.',
                _Share(lexicon.num_spelled, total),
                self._path,
                _Some(lexicon.odd),
            )
        unknown = numbers[arpa.UNK]
        self._bos, self._eos = (numbers.get(word, unknown) for word in (arpa.BOS, arpa.EOS))
        self._space = letters[' ']
        with tf.init_scope():
            self._keys = tf.constant(lexicon.keys)
            self._nodes = tf.constant(lexicon.nodes)
            # The last entry is that of node _OFF.
            self._word_of = tf.constant(np.append(lexicon.words, unknown))
            self._is_space = tf.one_hot(self._space, self._vocab)
            self._is_eos = tf.one_hot(self.eos_id, self._vocab)

    def InitStates(self, rows: tf.Tensor) -> NestedMap:
        return NestedMap(ngram=tf.zeros([rows], tf.int64), node=tf.zeros([rows], tf.int64))

    def ExtendStep(self, ids: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        starts, ends = tf.equal(ids, self.bos_id), tf.equal(ids, self._space)
        words = tf.where(starts, tf.cast(self._bos, tf.int64), self._Word(state.node))
        _, behind = self._automaton.Step(state.ngram, words)
        ngram = tf.where(starts | (ends & (state.node != 0)), behind, state.ngram)
        node = tf.where(starts | ends, tf.zeros_like(state.node), self._Spell(state.node, ids))

        # What the end of the word at hand adds, and the end of the text behind it.
        inside = node != 0
        word, behind = self._automaton.Step(ngram, self._Word(node))
        word = tf.where(inside, word, 0.0)
        eos = tf.fill(tf.shape(node), tf.cast(self._eos, tf.int64))
        end, _ = self._automaton.Step(tf.where(inside, behind, ngram), eos)
        scores = (
            word[:, tf.newaxis] * self._is_space
            + (word + end)[:, tf.newaxis] * self._is_eos
            + self._penalty
        )
        return scores, NestedMap(ngram=ngram, node=node)

    def _Spell(self, nodes: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """The nodes one letter further."""
        keys = nodes * self._vocab + tf.cast(ids, tf.int64)
        at = tf.minimum(tf.searchsorted(self._keys, keys), tf.size(self._keys) - 1)
        known = tf.equal(tf.gather(self._keys, at), keys) & (nodes >= 0)
        return tf.where(known, tf.gather(self._nodes, at), tf.cast(_OFF, tf.int64))

    def _Word(self, nodes: tf.Tensor) -> tf.Tensor:
        """The word that ends at each node; the unknown one if there is none."""
        last = tf.cast(tf.size(self._word_of) - 1, tf.int64)
        return tf.gather(self._word_of, tf.where(nodes == _OFF, last, nodes))


class _Lexicon:
    """Words as a tree of letters; node 0 is the beginning of a word.

    Attributes:
      keys: int64 [arcs], node * vocab + id of the letter, increasing.
      nodes: int64 [arcs], the nodes they lead to.
      words: int64 [nodes], the number of the word that ends there, or that of <unk>.
      num_spelled: words of the model that the letters spell.
      odd: the others.
    """

    def __init__(self, model: arpa.Arpa, letters: dict[str, int], vocab: int, lowercase: bool):
        arcs: dict[int, int] = {}
        unknown = model.words.index(arpa.UNK)
        ends: list[int] = [unknown]
        log_probs = model.log_probs[0]
        self.num_spelled = 0
        self.odd: list[str] = []
        for number, word in enumerate(model.words):
            if word in (arpa.BOS, arpa.EOS, arpa.UNK):
                continue
            spelled = word.lower() if lowercase else word
            if any(letter not in letters for letter in spelled):
                self.odd.append(word)
                continue
            self.num_spelled += 1
            node = 0
            for letter in spelled:
                node = arcs.setdefault(node * vocab + letters[letter], len(ends))
                if node == len(ends):
                    ends.append(unknown)
            if ends[node] == unknown or log_probs[ends[node]] < log_probs[number]:
                ends[node] = number
        keys, nodes = (np.array(list(x), np.int64) for x in (arcs.keys(), arcs.values()))
        order = np.argsort(keys)
        self.keys, self.nodes = keys[order], nodes[order]
        self.words = np.array(ends, np.int64)


def _Share(part: int, whole: int) -> str:
    """'3 of 40 (7.5%)'."""
    return f'{part:,} of {whole:,} ({part / whole:.1%})'


def _Some(texts: Sequence[str]) -> str:
    """A few texts, for messages."""
    return ', '.join(repr(text) for text in [text for text in texts if text][:4])
