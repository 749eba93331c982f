"""A model small enough to search by hand, whose caches notice every wrong gather."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding import scorers
from lingvo_lite.nested_map import NestedMap

_ROWS = 499


class Table:
    """Random logits for every (sentence, prefix), in NumPy, and searches over them by hand.

    The logits after a prefix are the row of a table that a hash of the whole prefix points at, plus
    a bias that belongs to the sentence; so they are random, but equal wherever they are asked for.
    """

    bos_id = 2
    eos_id = 1

    def __init__(self, vocab=7, sentences=4, source_time=3, seed=0, eos_bias=0.0, padded=0):
        rng = np.random.RandomState(seed)
        self.vocab, self.padded = vocab, padded
        self.logits = rng.normal(size=[_ROWS, vocab]).astype(np.float32) * 1.5
        self.logits[:, self.eos_id] += eos_bias
        if padded:
            self.logits = np.pad(self.logits, [[0, 0], [0, padded]], constant_values=-1e9)
        self.bias = rng.normal(size=[sentences, vocab + padded]).astype(np.float32)
        self.attention = rng.gumbel(size=[_ROWS, source_time]).astype(np.float32) * 2
        self.paddings = (
            np.arange(source_time) >= rng.randint(1, source_time + 1, size=[sentences, 1])
        ).astype(np.float32)

    def row(self, prefix):
        """Where the table is read after a prefix, as TableScorer gets there step by step."""
        recurrent = 0
        for token in prefix:
            recurrent = (recurrent * 31 + token + 1) % 9973
        grown = sum((i + 3) * token for i, token in enumerate(prefix))
        return (recurrent + 7 * grown + 13 * (len(prefix) - 1)) % _ROWS

    def log_probs(self, sentence, prefix):
        """float64 [vocab + padded]; prefix: the tokens after <s>."""
        x = self.logits[self.row([self.bos_id, *prefix])] + self.bias[sentence]
        x = x.astype(np.float64)
        return x - x.max() - np.log(np.exp(x - x.max()).sum())

    def attend(self, sentence, prefix):
        """float64 [source_time]."""
        x = self.attention[self.row([self.bos_id, *prefix])].astype(np.float64)
        p = np.exp(x) * (1 - self.paddings[sentence])
        return p / p.sum()

    def score(self, sentence, tokens, alpha=0.0, beta=0.0):
        """The score of a complete hypothesis, `tokens` without </s>."""
        closed = [*tokens, self.eos_id]
        total = sum(self.log_probs(sentence, closed[:i])[t] for i, t in enumerate(closed))
        score = total / ((5 + len(closed)) / 6) ** alpha
        if beta:
            coverage = sum(self.attend(sentence, closed[:i]) for i in range(len(closed)))
            real = self.paddings[sentence] < 0.5
            score += beta * np.log(np.clip(coverage[real], 1e-6, 1)).sum()
        return score

    def enumerate(self, sentence, limit, alpha=0.0, beta=0.0):
        """All (score, tokens) of at most `limit` tokens with </s>, best first."""
        others = [t for t in range(self.vocab) if t != self.eos_id]
        found = []
        for length in range(limit):
            for tokens in itertools.product(others, repeat=length):
                found.append((self.score(sentence, tokens, alpha, beta), list(tokens)))
        return sorted(found, key=lambda item: -item[0])

    def beam_search(self, sentence, limit, beam, n, alpha=0.0, beta=0.0):
        """Beam search, one candidate after the other, and without stopping before the limit."""
        live, finished = [(0.0, [])], []
        for position in range(limit):
            candidates = []
            for total, tokens in live:
                log_probs = self.log_probs(sentence, tokens)
                for token in range(self.vocab):
                    candidates.append((total + log_probs[token], [*tokens, token]))
            candidates.sort(key=lambda item: -item[0])
            ended = [tokens for _, tokens in candidates[:beam] if tokens[-1] == self.eos_id]
            if position == limit - 1:
                ended = [[*tokens, self.eos_id] for _, tokens in live]
            finished += [(self.score(sentence, t[:-1], alpha, beta), t[:-1]) for t in ended]
            live = [item for item in candidates if item[1][-1] != self.eos_id][:beam]
        return sorted(finished, key=lambda item: -item[0])[:n]


class MeanTable(Table):
    """The mean of the probabilities of several tables."""

    def __init__(self, tables):
        self.tables = tables
        self.vocab, self.paddings = tables[0].vocab, tables[0].paddings

    def log_probs(self, sentence, prefix):
        probs = [np.exp(table.log_probs(sentence, prefix)) for table in self.tables]
        return np.log(np.mean(probs, axis=0))

    def attend(self, sentence, prefix):
        return np.mean([table.attend(sentence, prefix) for table in self.tables], axis=0)


class TableScorer(scorers.Scorer):
    """The same in TensorFlow, step by step; the prefix is in caches that grow or do not."""

    def __init__(self, table, sentences, attention=False):
        self.bos_id, self.eos_id = table.bos_id, table.eos_id
        self._table, self._sentences = table, tf.convert_to_tensor(sentences)
        self.row_counts = []  # Of each step, where steps are run eagerly.
        if attention:
            self.source_paddings = tf.gather(table.paddings, self._sentences)

    def Init(self):
        batch = tf.size(self._sentences)
        return NestedMap(
            cache=NestedMap(
                recurrent=tf.zeros([batch, 1], tf.int32),
                tokens=tf.zeros([batch, 0], tf.int32),
                positions=tf.zeros([batch, 2, 0, 1], tf.int32),
            ),
            source=NestedMap(
                bias=tf.gather(self._table.bias, self._sentences),
                paddings=tf.gather(self._table.paddings, self._sentences),
            ),
        )

    def Step(self, ids, position, state):
        self.row_counts.append(ids.shape[0])
        recurrent = (state.cache.recurrent * 31 + ids[:, tf.newaxis] + 1) % 9973
        tokens = tf.concat([state.cache.tokens, ids[:, tf.newaxis]], axis=1)
        # A shape made of sizes, as scorers have it: see live_batch._hide_sizes.
        here = tf.fill([tf.size(ids), 2, 1, 1], position)
        positions = tf.concat([state.cache.positions, here], axis=2)
        weighted = tf.reduce_sum((positions[:, 1, :, 0] + 3) * tokens, axis=1)
        row = (recurrent[:, 0] + 7 * weighted + 13 * position) % _ROWS
        beams = tf.size(ids) // tf.shape(state.source.bias)[0]
        logits = tf.gather(self._table.logits, row) + tf.repeat(state.source.bias, beams, axis=0)
        attention = None
        if self.source_paddings is not None:
            real = 1 - tf.repeat(state.source.paddings, beams, axis=0)
            attention = tf.exp(tf.gather(self._table.attention, row)) * real
            attention /= tf.reduce_sum(attention, axis=-1, keepdims=True)
        cache = NestedMap(recurrent=recurrent, tokens=tokens, positions=positions)
        return logits, NestedMap(cache=cache, source=state.source), attention


@pytest.fixture(scope='package')
def make_table():
    return Table


@pytest.fixture(scope='package')
def make_mean():
    return MeanTable


@pytest.fixture(scope='package')
def make_scorer():
    return TableScorer


@pytest.fixture(scope='package')
def run_search(make_scorer):
    """search(scorer, limits, **kwargs) over some sentences of a table, in a graph -> NumPy."""

    def Run(search, table, sentences, limits, attention=False, **kwargs):
        @tf.function(autograph=False)
        def Graph(sentences, limits):
            scorer = make_scorer(table, sentences, attention)
            found = search(scorer, limits, **kwargs)
            return {key: value for key, value in found.items() if value is not None}

        found = Graph(tf.constant(sentences, tf.int32), tf.constant(limits, tf.int32))
        return NestedMap({key: value.numpy() for key, value in found.items()})

    return Run
