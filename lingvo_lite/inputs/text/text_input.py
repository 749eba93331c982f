"""What inputs of text share.

Fields of a batch, for b rows, s source tokens and t target tokens, padding included:

    source.ids        int32 [b, s]     tokens </s>
    source.paddings   float32 [b, s]   1.0 where there is no token
    target.ids        int32 [b, t]     <s> tokens: what the decoder reads
    target.labels     int32 [b, t]     tokens </s>: what it should say
    target.paddings   float32 [b, t]
    target.weights    float32 [b, t]   1 - paddings
    id, row_weight                     see pipeline.BaseInput

    'zwei Hunde' -> 'two dogs', row padded to 4:
    source.ids [17 9 2 0]  target.ids [1 23 41 0]  target.labels [23 41 2 0]  weights [1 1 1 0]
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from lingvo_lite import hyperparams, nested_map
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import order, source
from lingvo_lite.inputs.text import token_arrays, token_table, tokenized_input, tokenizers

_DRAWS = 4  # random segmentations that are tried to fit into the planned length


class TextInput(tokenized_input.TokenizedInput):
    """What inputs of text share: encoding, lengths, laying out, and the texts by id."""

    _keeps_counts = True  # in the cache folder

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define(
            'source_max_length',
            None,
            'Longest source that is trained on, in tokens with </s>. Evaluation takes any.',
            type=int,
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if values do not fit."""
        super().Check(p)
        keys = [key for key in ('source_max_length', 'target_max_length') if key in p]
        hyperparams.RequireRange(p, *keys, at_least=2, note='a token and </s>')

    def __init__(self, params: hyperparams.Params, texts: source.Source):
        super().__init__(params, texts)
        self._tables: dict[bool, token_table.TokenTable] = {}
        self._lock = threading.Lock()

    def Strings(self, index: int) -> nested_map.NestedMap:
        """The texts of an example, `source` and, where there is one, `target`.

        Raises:
          IndexError: if there is no such example; -1, a fill row, is none.
        """
        if not 0 <= index < len(self._held):
            raise IndexError(f'{self._held.name} has {len(self._held):,} examples, not {index}.')
        return nested_map.NestedMap(zip(self.side_names, self._held.Get(int(index))))

    def _Counts(self, train: bool) -> np.ndarray:
        """[examples, sides] tokens without <s> and </s>; -1 in the rows of bad records.

        For random segmentations those of one draw, but no fewer than without chance.
        """
        plain = self._PlainCounts()
        if train and self.tokenizer.samples:
            return np.where(plain < 0, plain, np.maximum(plain, self._Table(True).counts))
        return plain

    def _PlainCounts(self) -> np.ndarray:
        return self._Table(False).counts

    def _Table(self, sample: bool) -> token_table.TokenTable:
        with self._lock:
            if sample not in self._tables:
                self._tables[sample] = token_table.Build(
                    len(self._held),
                    len(self.side_names),
                    self._held.Get,
                    self.tokenizer,
                    sample,
                    self.params.num_batcher_threads,
                    self._held.Fingerprint() if self._keeps_counts else None,
                )
                for index, error in self._tables[sample].errors.items():
                    self._NoteBad(index, error)
            return self._tables[sample]

    def _Lengths(self, train: bool) -> np.ndarray:
        return np.maximum(self._Counts(train), 0) + 1

    def _Usable(self, train: bool) -> np.ndarray:
        counts = self._Counts(train)
        readable = counts[:, 0] >= 0
        empty = readable & (counts == 0).any(axis=1)
        self._WarnOfEmpty(empty, 'examples have an empty side', train)
        return readable & ~empty if train else readable

    def _MaxLengths(self) -> tuple[Optional[int], ...]:
        return tuple(self.params.Get(f'{side}_max_length') for side in self.side_names)

    def _Read(self, index: int) -> Optional[Sequence[str]]:
        """The texts of an example; None, and counted, if it is bad."""
        try:
            return self._held.Get(index)
        except source.BadRecordError as error:
            self._NoteBad(index, error)
            return None

    def _Load(self, ids: Sequence[int], plan: order.PlannedBatch, train: bool) -> list[Any]:
        """For each example the token ids of its sides."""
        sample = train and self.tokenizer.samples
        table = None if sample else self._tables.get(False)
        if table is not None and table.has_ids:
            return [table.Ids(i) for i in ids]
        texts = {i: found for i in ids if (found := self._Read(i)) is not None}
        sides = []
        for side in range(len(self.side_names)):
            column = {i: found[side] for i, found in texts.items()}
            if sample:
                sides.append(self._Sampled(column, plan, side))
            else:
                sides.append(dict(zip(column, self.tokenizer.Encode(list(column.values())))))
        rows = ([side[i] for side in sides] if i in texts else None for i in ids)
        return [self._Fitting(i, row, plan) for i, row in zip(ids, rows)]

    def _Fitting(
        self, index: int, row: Optional[list[Any]], plan: order.PlannedBatch
    ) -> Optional[list[Any]]:
        """The token ids of an example; None, and counted, if they are more than were planned."""
        for name, tokens, padded in zip(self.side_names, row or (), plan.padded):
            if len(tokens) >= padded:  # there is </s> too
                error = source.BadRecordError(
                    f'{self.Where(index)}: its {name} has {len(tokens):,} tokens, which its index '
                    f'says are fewer than {padded:,}.'
                )
                self._NoteBad(index, error)
                return None
        return row

    def _Sampled(
        self, texts: dict[int, str], plan: order.PlannedBatch, side: int
    ) -> dict[int, list[int]]:
        """Random segmentations by id, none longer than the batch was planned for.

        One that is longer is drawn again; after some draws the text is segmented without chance,
        which always fits. So the budget holds, and nothing depends on who else is in the batch
        but for the length that it is padded to.
        """
        found: dict[int, list[int]] = {}
        for attempt in range(_DRAWS):
            left = [i for i in texts if i not in found]
            key = (self.params.random_seed, plan.source_epoch, side, attempt)
            seeds = tokenizers.SampleSeeds(left, *key)
            drawn = self.tokenizer.Sample([texts[i] for i in left], seeds)
            found.update((i, row) for i, row in zip(left, drawn) if len(row) < plan.padded[side])
        left = [i for i in texts if i not in found]
        found.update(zip(left, self.tokenizer.Encode([texts[i] for i in left])))
        return found

    def _Collate(self, examples: list[Any], padded: tuple[int, ...]) -> nested_map.NestedMap:
        batch = nested_map.NestedMap()
        for side, name in enumerate(self.side_names):
            rows = [None if example is None else example[side] for example in examples]
            if name == 'source':
                labels, paddings = token_arrays.Labels(rows, padded[side])
                batch.source = nested_map.NestedMap(ids=labels, paddings=paddings)
            else:
                batch[name] = token_arrays.Targets(rows, padded[side])
        return batch
