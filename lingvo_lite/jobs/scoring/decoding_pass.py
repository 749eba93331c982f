"""One pass of the search over a dataset."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.scoring import score_folder
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.task import BaseTask
from lingvo_lite.training import evaluation

_PICTURES = 4


def CanDecode(task: BaseTask) -> bool:
    """Whether the task has a search."""
    return type(task).Decode is not BaseTask.Decode


class DecodingPass:
    """Decodes a dataset, every example once, and scores it by the task's decoder metrics."""

    job = 'decode'
    title = 'decoder'

    def __init__(
        self,
        task: Any,
        devices: runtime.Runtime,
        inputs: Any,
        substitutes: Any = None,
        others: Sequence[Any] = (),
    ):
        """Takes what to decode.

        Args:
          task: its variables hold the weights when `Run` is called.
          devices: where to compute.
          inputs: the dataset; None if each call of `Decode` brings its own.
          substitutes: from `Learner.Substitutes`, to decode with the moving averages.
          others: further tasks, with other weights, that make an ensemble with the first.
        """
        self._task = task
        self._devices = devices
        self._inputs = inputs
        self._decoder = evaluation.Decoder(task, devices.strategy, substitutes, others)
        self._painter = evaluation.OnReplicas(
            task, devices.strategy, self._Pictures, 'Pictures', substitutes
        )
        self._prepared = False
        self._heard = False  # Pictures change from checkpoint to checkpoint, what is said does not.
        if inputs is not None:
            self._Prepare(inputs)

    def Run(
        self, stop: threading.Event, beat: Callable[[], None] = lambda: None
    ) -> Optional[score_folder.Pass]:
        """Goes through the dataset; None if `stop` was set meanwhile. Calls `beat` each batch."""
        begin = time.perf_counter()
        metrics = self._task.CreateDecoderMetrics()
        records: list[dict[str, Any]] = []
        shown: Optional[NestedMap] = None
        limit = self._task.params.eval.decoder_samples_per_summary
        with self._inputs.Batches(
            replicas=self._devices.replicas, train=False, num_samples=limit
        ) as feed:
            for batch in feed:
                if stop.is_set():
                    return None
                beat()
                records += self.Decode(batch.replicas, self._inputs, metrics)
                if shown is None:
                    shown = self._Paint(batch.replicas)
        records.sort(key=lambda record: record['id'])
        seconds = time.perf_counter() - begin
        values: dict[str, Any] = {}
        for metric in metrics.values():
            values.update(metric.Summary())
        values['examples'] = len(records)
        if self._inputs.BadIds():
            values['bad_records'] = len(self._inputs.BadIds())
        values['seconds'] = round(seconds, 3)
        shown = shown or NestedMap(pictures={}, sounds={})
        sounds = {} if self._heard else shown.sounds
        self._heard = True
        return score_folder.Pass(values, records, shown.pictures, sounds)

    def Decode(
        self, batches: Sequence[NestedMap], inputs: Any, metrics: Any
    ) -> list[dict[str, Any]]:
        """Records of the examples in a batch, fill rows left out.

        Args:
          batches: one for each replica.
          inputs: where the examples' strings are.
          metrics: to update; None if there are no references.
        """
        self._Prepare(inputs)
        records = []
        for batch, decoded in zip(batches, self._decoder.DecodeStep(batches)):
            kept = batch.row_weight > 0
            if kept.any():
                decoded.id = batch.id
                decoded = decoded.Filter(lambda value: value is not None)  # no attention, say
                rows = decoded.Transform(lambda value, kept=kept: value[kept])
                records += self._task.PostProcessDecodeOut(rows, inputs, metrics)
        return records

    def _Prepare(self, inputs: Any) -> None:
        if not self._prepared:
            with self._devices.strategy.scope():
                self._task.PrepareDecode(inputs)
            self._prepared = True

    def _Pictures(self, batch: NestedMap) -> NestedMap:
        """In the graph: what `BaseTask.Summaries` returns for the first rows."""
        few = batch.Transform(lambda value: value[:_PICTURES])
        return self._task.Summaries(self._task.ComputePredictions(few), few)

    def _Paint(self, batches: Sequence[NestedMap]) -> NestedMap:
        """`pictures` and `sounds` of the first examples of a batch, if the task has any."""
        found = NestedMap(pictures={}, sounds={})
        if type(self._task).Summaries is BaseTask.Summaries:
            return found
        first = batches[0]
        rows = min(_PICTURES, int((first.row_weight > 0).sum()))
        for name, value in self._painter(batches)[0].items():
            for row in range(rows):
                own = f'{name}/{int(first.id[row])}'
                if isinstance(value, NestedMap):
                    samples = value.waveform[row, : value.num_samples[row]]
                    found.sounds[own] = score_folder.Sound(samples, int(value.sample_rate[row]))
                else:
                    found.pictures[own] = value[row]
        return found
