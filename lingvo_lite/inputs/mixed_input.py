"""Several inputs as one: each batch comes from one of them, drawn by weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lingvo_lite import hyperparams, nested_map
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import cache, mixture_order, order, pipeline


class MixedInput(pipeline.BaseInput):
    """Trains on several inputs; `mixture_order.Mixture` says from which one the n-th batch comes.

    Each input keeps its own limits, tokenizer and seed. Ids of input k begin where those of input
    k - 1 end. All must give batches of the same fields. There is nothing to evaluate here: evaluate
    the inputs one by one, so that each has its own score.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = hyperparams.InstantiableParams(cls)
        p.Define(
            'inputs', hyperparams.REQUIRED, 'What is mixed.', type=list, bound=pipeline.BaseInput
        )
        p.Define('weights', [], 'Share of the batches of each input, up to a common factor.')
        p.Define('random_seed', 0, 'Seed of the draws.')
        p.Define('num_batcher_threads', 2, 'Threads that make batches.', resume='free')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if values do not fit."""
        if not p.inputs or len(p.weights) != len(p.inputs):
            raise hyperparams.Fail(
                p, f'{len(p.inputs)} inputs and {len(p.weights)} weights; give one for each.'
            )
        hyperparams.RequireRange(p, 'weights', above=0)

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self.inputs = [inner.Instantiate() for inner in params.inputs]
        self.side_names = self.inputs[0].side_names
        self._first = np.cumsum([0] + [inner.NumExamples() for inner in self.inputs])

    @property
    def tokenizer(self) -> Any:
        """That of the first input."""
        return self.inputs[0].tokenizer

    def Vocabulary(self) -> str:
        """That of the inputs, which share a tokenizer."""
        return self.inputs[0].Vocabulary()

    def Tokens(self) -> list[str]:
        """Those of the inputs, which have one vocabulary."""
        return self.inputs[0].Tokens()

    def NumExamples(self) -> int:
        """Number of examples in all inputs."""
        return int(self._first[-1])

    def Where(self, index: int) -> str:
        """File and record of an example."""
        which = self._Which(index)
        return self.inputs[which].Where(index - int(self._first[which]))

    def Fingerprint(self) -> str:
        """A hash over those of the inputs."""
        return cache.Key('mixed', [inner.Fingerprint() for inner in self.inputs])

    def BadIds(self) -> set[int]:
        """Those of all inputs; each has its own limit."""
        return {
            int(first) + i for first, inner in zip(self._first, self.inputs) for i in inner.BadIds()
        }

    def _RestoreBad(self, index: int) -> None:
        which = self._Which(index)
        self.inputs[which]._RestoreBad(index - int(self._first[which]))

    def _Files(self) -> str:
        return ' or '.join(inner._Files() for inner in self.inputs)

    def Strings(self, index: int) -> nested_map.NestedMap:
        """The texts of an example."""
        which = self._Which(index)
        return self.inputs[which].Strings(index - int(self._first[which]))

    def _MakeOrder(self, train: bool, num_samples: int = 0) -> pipeline.AnyOrder:
        if not train:
            raise ValueError('a MixedInput is for training only. Evaluate its inputs one by one.')
        orders = [inner.Order(True) for inner in self.inputs]
        sizes = [inner.NumExamples() for inner in self.inputs]
        return mixture_order.Mixture(orders, sizes, self.params.weights, self.params.random_seed)

    def _Which(self, index: int) -> int:
        if not 0 <= index < self.NumExamples():
            raise IndexError(f'the mixture has {self.NumExamples():,} examples, not {index}.')
        return int(np.searchsorted(self._first, index, side='right')) - 1

    def _Load(self, ids: Sequence[int], plan: order.PlannedBatch, train: bool) -> list[Any]:
        """(which input, its example) of each; all of one batch are of one input."""
        if not ids:
            return []
        which = self._Which(ids[0])
        local = [i - int(self._first[which]) for i in ids]
        loaded = self.inputs[which]._Load(local, plan, train)
        return [None if example is None else (which, example) for example in loaded]

    def _Collate(self, examples: list[Any], padded: tuple[int, ...]) -> nested_map.NestedMap:
        which = next((example[0] for example in examples if example is not None), 0)
        own = [None if example is None else example[1] for example in examples]
        return self.inputs[which]._Collate(own, padded)
