"""A back-off n-gram model in the graph (Katz 1987).

log P(w | h) = log p(h w)                       if the model has the n-gram h w,
               backoff(h) + log P(w | h')       otherwise, h' being h without its first word.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from lingvo_lite.decoding.language_models import arpa


class BackoffAutomaton:
    """An n-gram model as states and arcs.

    State 0 is the empty context; each n-gram below the highest order is one more. The arc of word
    w at state h is the n-gram h w. It leads to the longest suffix of h w that is a state.

    Attributes:
      order: n of the longest n-grams.
      num_words: the unknown word included.
    """

    def __init__(self, model: arpa.Arpa):
        """Builds it.

        Args:
          model: what a file says.

        Raises:
          arpa.ArpaError: if an n-gram stands twice, or without its context.
        """
        self.order, self.num_words = model.order, len(model.words)
        arcs = _Arcs(model)
        with tf.init_scope():  # Eager tensors: a function captures them and holds no copy.
            self._keys = tf.constant(arcs.keys)
            self._log_probs = tf.constant(arcs.log_probs)
            self._targets = tf.constant(arcs.targets)
            self._backoffs = tf.constant(arcs.backoffs)
            self._fallbacks = tf.constant(arcs.fallbacks)

    def Step(self, states: tf.Tensor, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """log P(word | state) and the state behind the word.

        Args:
          states: int64 [rows].
          words: int64 [rows].

        Returns:
          float32 [rows] and int64 [rows].
        """
        paid = tf.zeros_like(states, tf.float32)
        log_probs, targets = paid, tf.zeros_like(states)
        found = tf.zeros_like(states, tf.bool)
        last = tf.size(self._keys) - 1
        for _ in range(self.order):
            keys = states * self.num_words + words
            at = tf.minimum(tf.searchsorted(self._keys, keys), last)
            here = tf.equal(tf.gather(self._keys, at), keys) & tf.logical_not(found)
            log_probs = tf.where(here, paid + tf.gather(self._log_probs, at), log_probs)
            targets = tf.where(here, tf.gather(self._targets, at), targets)
            found |= here
            paid += tf.gather(self._backoffs, states)
            states = tf.gather(self._fallbacks, states)
        return log_probs, targets


class _Arcs:
    """The arrays of a `BackoffAutomaton`.

    Attributes:
      keys: int64 [arcs], state * words + word, increasing.
      log_probs: float32 [arcs].
      targets: int64 [arcs], the states behind.
      backoffs: float32 [states].
      fallbacks: int64 [states]: the context without its first word; of state 0 itself.
    """

    def __init__(self, model: arpa.Arpa):
        self._words = len(model.words)
        self._levels: list[tuple[np.ndarray, np.ndarray]] = []  # sorted keys, their nodes
        keys, targets = [], []
        fallbacks, backoffs = [np.zeros(1, np.int64)], [np.zeros(1, np.float32)]
        first = 1
        for n, ngrams in enumerate(model.ngrams, 1):
            contexts = self._Contexts(model, n)
            own = contexts * self._words + ngrams[:, -1]
            nodes = first + np.arange(len(own))
            order = np.argsort(own, kind='stable')
            twice = np.flatnonzero(np.diff(own[order]) == 0)
            if len(twice):
                row = int(order[twice[0] + 1])
                raise model.Error(n, row, f'{model.Show(ngrams[row])} stands twice')
            self._levels.append((own[order], nodes[order]))
            known = np.concatenate(fallbacks)
            shorter = self._Suffixes(known[contexts], ngrams[:, -1], n, known)
            keys.append(own)
            if n < model.order:
                targets.append(nodes)
                fallbacks.append(shorter)
                backoffs.append(model.backoffs[n - 1])
                first += len(own)
            else:
                targets.append(shorter)
        merged = np.concatenate(keys)
        order = np.argsort(merged)
        self.keys = merged[order]
        self.log_probs = np.concatenate(model.log_probs)[order]
        self.targets = np.concatenate(targets)[order]
        self.fallbacks = np.concatenate(fallbacks)
        self.backoffs = np.concatenate(backoffs)

    def _Contexts(self, model: arpa.Arpa, n: int) -> np.ndarray:
        """int64 [count]: the nodes of the n-grams without their last word."""
        ngrams = model.ngrams[n - 1]
        nodes = np.zeros(len(ngrams), np.int64)
        for level, column in enumerate(ngrams[:, :-1].T):
            found = self._Find(level, nodes, column)
            if (found < 0).any():
                row = int(np.argmax(found < 0))
                raise model.Error(
                    n,
                    row,
                    f'{model.Show(ngrams[row])} needs its context {model.Show(ngrams[row, :-1])} '
                    f'among the {n - 1}-grams',
                )
            nodes = found
        return nodes

    def _Suffixes(
        self, contexts: np.ndarray, words: np.ndarray, n: int, fallbacks: np.ndarray
    ) -> np.ndarray:
        """The longest node h w with h a suffix of the context; 0 (nothing) for 1-grams."""
        result = np.full(len(words), -1, np.int64)
        if n == 1:
            return np.zeros(len(words), np.int64)
        open_ = np.arange(len(words))
        while len(open_):
            found = np.full(len(open_), -1, np.int64)
            for level in range(n - 1):
                at = self._Find(level, contexts[open_], words[open_])
                found = np.where(at >= 0, at, found)
            result[open_] = found
            open_ = open_[found < 0]
            contexts[open_] = fallbacks[contexts[open_]]
        return result

    def _Find(self, level: int, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Nodes of level + 1 words, given those of `level` words; -1 where there is none."""
        keys, found = self._levels[level]
        if not len(keys):
            return np.full(len(words), -1, np.int64)
        wanted = nodes * self._words + words
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, found[at], -1)
