"""Losses and hypotheses of batches, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import tensorflow as tf

from lingvo_lite import step
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import gradients, replica_function


class OnReplicas:
    """`fn(batch)` on every replica, in a step context that is not training.

    Args:
      task: a task.BaseTask; the seed is its own.
      strategy: the one in whose scope the task was built.
      fn: NestedMap -> nested maps of tensors; a None in them stays None.
      name: of the function, in messages.
      substitutes: {variable.ref(): value} to compute with in place of variables:
        `learner.Substitutes()` for moving averages.
    """

    def __init__(
        self,
        task: Any,
        strategy: tf.distribute.Strategy,
        fn: Callable[[NestedMap], Any],
        name: str,
        substitutes: Optional[Mapping[Any, Any]] = None,
    ):
        self._task = task
        self._strategy = strategy
        self._fn = fn
        self._substitutes = substitutes
        # Of a result, found when traced; and which of its leaves are not None.
        self._structure: Any = None
        self._present: list[bool] = []
        self._function = replica_function.ReplicaFunction(strategy, self._Body, name)

    @property
    def num_traces(self) -> int:
        """How often the function was traced."""
        return self._function.num_traces

    def __call__(self, batches: Sequence[NestedMap]) -> list[Any]:
        """What `fn` returns, as numpy arrays, for each replica of this worker."""
        results = []
        for flat in self._function(batches):
            values = iter(flat)
            arrays = [next(values).numpy() if there else None for there in self._present]
            results.append(tf.nest.pack_sequence_as(self._structure, arrays))
        return results

    def _Body(self, batch: Any) -> list[list[tf.Tensor]]:
        local = self._strategy.experimental_local_results
        flat = [local(value) for value in self._strategy.run(self._OnReplica, args=(batch,))]
        return [list(values) for values in zip(*flat)]

    def _OnReplica(self, batch: NestedMap) -> list[tf.Tensor]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        with step.Context(
            training=False,
            seed=self._task.params.random_seed or 0,
            replica=replica,
            substitutes=self._substitutes,
        ):
            result = self._fn(batch)
        self._structure = tf.nest.map_structure(lambda value: None, result)
        flat = tf.nest.flatten(result)
        self._present = [value is not None for value in flat]
        return [tf.convert_to_tensor(value) for value in flat if value is not None]


class Evaluator:
    """The loss of batches.

    Args:
      task, strategy, substitutes: as in `OnReplicas`.
    """

    def __init__(
        self,
        task: Any,
        strategy: tf.distribute.Strategy,
        substitutes: Optional[Mapping[Any, Any]] = None,
    ):
        self._task = task
        self._run = OnReplicas(task, strategy, self._Loss, 'EvalStep', substitutes)

    @property
    def num_traces(self) -> int:
        """How often the step was traced."""
        return self._run.num_traces

    def EvalStep(self, batches: Sequence[NestedMap]) -> NestedMap:
        """The loss of one global batch.

        Args:
          batches: a batch for each replica of this worker.

        Returns:
          terms, metrics: {name: (sum, weight)}, floats, over all replicas of all workers.
          per_example: for each of `batches`, {name: numpy array [rows]}; fill rows included.
        """
        results = self._run(batches)
        first = results[0]
        both = [
            NestedMap({name: (float(s), float(w)) for name, (s, w) in sorted(pairs.items())})
            for pairs in (first.terms, first.metrics)
        ]
        return NestedMap(
            terms=both[0], metrics=both[1], per_example=[each.per_example for each in results]
        )

    def _Loss(self, batch: NestedMap) -> NestedMap:
        loss = self._task.ComputeLoss(self._task.ComputePredictions(batch), batch)
        pairs = [gradients.CheckedPairs(loss, key) for key in ('terms', 'metrics')]
        # [terms + metrics, 2]
        packed = tf.stack([tf.stack(pair) for each in pairs for pair in each.values()])
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            packed = replica.all_reduce(tf.distribute.ReduceOp.SUM, packed)
        rows = iter(tf.unstack(packed))
        terms, metrics = (
            NestedMap({name: tuple(tf.unstack(next(rows))) for name in each}) for each in pairs
        )
        per_example = NestedMap(loss.get('per_example', {}))
        return NestedMap(terms=terms, metrics=metrics, per_example=per_example)


class Decoder:
    """`task.Decode` of batches.

    Args:
      task, strategy, substitutes: as in `OnReplicas`.
      others: further tasks of the same Params that are decoded with as an ensemble.
    """

    def __init__(
        self,
        task: Any,
        strategy: tf.distribute.Strategy,
        substitutes: Optional[Mapping[Any, Any]] = None,
        others: Sequence[Any] = (),
    ):
        def Decode(batch: NestedMap) -> Any:
            return task.Decode(batch, others) if others else task.Decode(batch)

        self._run = OnReplicas(task, strategy, Decode, 'DecodeStep', substitutes)

    @property
    def num_traces(self) -> int:
        """How often the step was traced."""
        return self._run.num_traces

    def DecodeStep(self, batches: Sequence[NestedMap]) -> list[Any]:
        """What `Decode` returns, as numpy arrays, for each replica of this worker."""
        return self._run(batches)
