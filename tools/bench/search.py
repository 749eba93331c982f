"""d: our beam search with its cache over without. d2: our beam search over one by hand.

The weights are random, but </s> is made so improbable that each hypothesis has the length that its
limit says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lingvo_lite import step as step_context
from lingvo_lite.decoding import scorers
from lingvo_lite.layers import base
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.tasks.mt.params import transformer
from lingvo_lite.training import precision

from . import results, search_by_hand, transformer_by_hand, turns

_ALPHA = 0.6
_BEAM = 4
# In float32, of sentences whose hypotheses are the same; in bfloat16 rounding decides near ties.
_LEAST_EQUAL = {'float32': 1.0, 'mixed_bfloat16': 0.8}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of the model and of a batch: `rows` sentences, with limits in [shortest, longest]."""

    vocab_size: int = 8000
    dim: int = 256
    hidden: int = 1024
    heads: int = 4
    layers: int = 3
    block: int = 100
    rows: int = 32
    shortest: int = 8
    longest: int = 24


FULL = Sizes()
QUICK = Sizes(
    vocab_size=64, dim=16, hidden=32, heads=2, layers=2, block=4, rows=5, shortest=2, longest=6
)


def make_task(sizes: Sizes, policy: str) -> Any:
    """A TransformerModel with beam search, random weights, and an </s> that is never chosen."""
    p = transformer.Model(
        sizes.vocab_size, sizes.dim, sizes.hidden, sizes.heads, sizes.layers, rate=0.0
    )
    p.search.Set(method='beam', beam_size=_BEAM, length_normalization=_ALPHA)
    p.train.precision = policy
    precision.Apply(p)
    task = p.Instantiate()
    # Every output has a large part along `away`, and the vector of </s> points against it.
    away = np.random.RandomState(1).normal(size=[sizes.dim]) / np.sqrt(sizes.dim)
    table = task.embedding.vars.table
    rows = table.numpy()
    rows[p.eos_id] = -8.0 * away
    table.assign(rows)
    task.decoder.final_norm.vars.bias.assign(8.0 * away)
    # Without biases a random network hardly tells one prefix from another.
    for path, variable in task.AllVariables().items():
        if path.endswith('/w'):
            variable.assign(3.0 * variable)
    return task


def random_batch(sizes: Sizes) -> NestedMap:
    """Sentences whose lengths, and the limits of their hypotheses, spread as in sorted data."""
    rng = np.random.RandomState(0)
    middle = (sizes.shortest + sizes.longest) // 2
    lengths = np.clip(rng.normal(middle, 1, size=sizes.rows), 1, sizes.longest).astype(int)
    paddings = (np.arange(lengths.max()) >= lengths[:, np.newaxis]).astype(np.float32)
    ids = rng.randint(3, sizes.vocab_size, size=paddings.shape).astype(np.int32)
    limits = rng.randint(sizes.shortest, sizes.longest + 1, size=sizes.rows).astype(np.int32)
    return NestedMap(
        id=np.arange(sizes.rows), source=NestedMap(ids=ids, paddings=paddings), limits=limits
    )


def our_search(task: Any, batch: NestedMap, scorer: Any = None) -> Callable[[], NestedMap]:
    """The search of TransformerModel.Decode, with limits from the batch.

    Args:
      task: a TransformerModel.
      batch: from `random_batch`.
      scorer: (task, batch) -> scorers.Scorer; None for the task's own.
    """

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    def search(ids: tf.Tensor, paddings: tf.Tensor, limits: tf.Tensor) -> Any:
        own = NestedMap(source=NestedMap(ids=ids, paddings=paddings))
        with step_context.Context(training=False), base.Hoisted(task):
            chosen = scorer(task, own) if scorer else task.Scorer(own)
            found = task.params.search.Instantiate().Decode(chosen, limits)
        return found.ids[:, 0], found.lengths[:, 0], found.scores[:, 0]

    return _called(search, batch)


def search_of_hand(task: Any, sizes: Sizes, batch: NestedMap) -> Callable[[], NestedMap]:
    """The search by hand, with the task's weights."""
    p = task.params
    values = {path: variable.numpy() for path, variable in task.AllVariables().items()}
    model = transformer_by_hand.Transformer(values, sizes.layers, sizes.heads, task.dtype)
    by_hand = search_by_hand.SearchByHand(
        model, _BEAM, _ALPHA, bos_id=p.bos_id, eos_id=p.eos_id, block=sizes.block
    )
    return _called(by_hand.search, batch)


def _called(search: Any, batch: NestedMap) -> Callable[[], NestedMap]:
    arguments = (batch.source.ids, batch.source.paddings, batch.limits)

    def call() -> NestedMap:
        ids, lengths, scores = search(*map(tf.convert_to_tensor, arguments))
        return NestedMap(ids=ids.numpy(), lengths=lengths.numpy(), scores=scores.numpy())

    return call


def share_of_equal(one: NestedMap, other: NestedMap) -> float:
    """The share of sentences with the same tokens."""
    equal = [
        length == other_length and (ids[:length] == other_ids[:length]).all()
        for ids, other_ids, length, other_length in zip(
            one.ids, other.ids, one.lengths, other.lengths
        )
    ]
    return float(np.mean(equal))


class RecomputingScorer(scorers.Scorer):
    """The decoder without a cache: every step computes the whole prefix again."""

    def __init__(self, task: Any, batch: NestedMap):
        self._task = task
        self._batch = batch
        self.bos_id, self.eos_id = task.params.bos_id, task.params.eos_id

    def Init(self) -> NestedMap:
        paddings = self._batch.source.paddings
        prefix = tf.zeros([tf.shape(paddings)[0], 0], tf.int32)
        source = NestedMap(encoded=self._task.Encode(self._batch), paddings=paddings)
        return NestedMap(cache=NestedMap(prefix=prefix), source=source)

    def Step(self, ids: tf.Tensor, position: tf.Tensor, state: NestedMap) -> Any:
        prefix = tf.concat([state.cache.prefix, ids[:, tf.newaxis]], axis=1)
        source = NestedMap({name: tf.repeat(x, _BEAM, axis=0) for name, x in state.source.items()})
        task = self._task
        x = task.decoder.FProp(
            task.position.FProp(task.embedding.FProp(prefix)),
            tf.zeros(tf.shape(prefix)),
            source.encoded,
            source.paddings,
        )
        state = NestedMap(cache=NestedMap(prefix=prefix), source=state.source)
        return task.softmax.Logits(x[:, -1]), state, None


def cache_over_none(quick: bool) -> Iterator[results.Result]:
    """Our beam search without a cache over that with it: 32 sentences, 40 tokens, beam 4."""
    sizes, rounds = (QUICK, 2) if quick else (FULL, 8)
    task = make_task(sizes, 'float32')
    batch = random_batch(sizes)
    batch.limits[:] = 7 if quick else 40
    cached = our_search(task, batch)
    recomputed = our_search(task, batch, RecomputingScorer)
    _require_equal(cached(), recomputed(), 'float32')
    seconds = turns.in_turn({'none': recomputed, 'cache': cached}, rounds)
    yield results.from_pairs(
        'd',
        seconds['none'],
        seconds['cache'],
        at_least=3,
        note='beam search that computes the prefix again / with our cache',
    )


def search_over_by_hand(quick: bool) -> Iterator[results.Result]:
    """Our beam search over one by hand, in float32 and mixed_bfloat16."""
    sizes, rounds = (QUICK, 2) if quick else (FULL, 20)
    for policy in ('float32', 'mixed_bfloat16'):
        task = make_task(sizes, policy)
        batch = random_batch(sizes)
        ours, by_hand = our_search(task, batch), search_of_hand(task, sizes, batch)
        _require_equal(ours(), by_hand(), policy)
        seconds = turns.in_turn({'ours': ours, 'by hand': by_hand}, rounds)
        yield results.from_pairs(
            f'd2 {policy}',
            seconds['ours'],
            seconds['by hand'],
            at_most=1.05,
            note='our beam search / by hand',
        )


def _require_equal(one: NestedMap, other: NestedMap, policy: str) -> None:
    share = share_of_equal(one, other)
    if share < _LEAST_EQUAL[policy]:
        raise RuntimeError(
            f'{policy}: only {share:.0%} of the sentences have the same hypothesis in both '
            'searches, so their times cannot be compared.'
        )
