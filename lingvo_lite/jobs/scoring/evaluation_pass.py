"""One pass of the loss over a dataset."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Optional

from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.scoring import score_folder
from lingvo_lite.metrics import mean
from lingvo_lite.training import evaluation


class EvaluationPass:
    """Scores a dataset by the terms and metrics of the task's loss, every example once."""

    job = 'eval'
    title = 'evaler'

    def __init__(self, task: Any, devices: runtime.Runtime, inputs: Any, substitutes: Any = None):
        """Takes what to score.

        Args:
          task: its variables hold the weights when `Run` is called.
          devices: where to compute.
          inputs: the dataset.
          substitutes: from `Learner.Substitutes`, to score the moving averages of a training.
        """
        self._task = task
        self._devices = devices
        self._inputs = inputs
        self._evaluator = evaluation.Evaluator(task, devices.strategy, substitutes)

    def Run(
        self, stop: threading.Event, beat: Callable[[], None] = lambda: None
    ) -> Optional[score_folder.Pass]:
        """Goes through the dataset; None if `stop` was set meanwhile. Calls `beat` each batch."""
        begin = time.perf_counter()
        found: dict[str, mean.Mean] = {}
        terms = set()
        examples = 0
        limit = self._task.params.eval.samples_per_summary
        with self._inputs.Batches(
            replicas=self._devices.replicas, train=False, num_samples=limit
        ) as feed:
            for batch in feed:
                if stop.is_set():
                    return None
                beat()
                result = self._evaluator.EvalStep(batch.replicas)
                terms.update(result.terms)
                for name, (total, weight) in {**result.terms, **result.metrics}.items():
                    if name not in found:
                        found[name] = _MetricFor(name)
                    found[name].Update(total / weight if weight else 0.0, weight)
                examples += batch.num_examples - len(batch.bad_ids)
        values: dict[str, Any] = {}
        if 'loss' not in found:
            values['loss'] = sum(self._Weight(name) * found[name].value for name in sorted(terms))
        for name in sorted(found):
            values.update(found[name].Summary())
        values['examples'] = examples
        if self._inputs.BadIds():
            values['bad_records'] = len(self._inputs.BadIds())
        values['seconds'] = round(time.perf_counter() - begin, 3)
        return score_folder.Pass(values)

    def _Weight(self, term: str) -> float:
        return float(self._task.params.loss_weights.get(term, 1.0))


def _MetricFor(name: str) -> mean.Mean:
    return mean.LogPerplexity(name) if 'log_pplx' in name else mean.Mean(name)
