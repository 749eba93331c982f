"""One tf.function for batches of all sizes, on one replica or many.

tf.function traces anew for every shape of a per-replica value. So the function takes the local
replicas' batches as plain tensors whose rows and times have no fixed size, and puts the
per-replica value together inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from lingvo_lite.nested_map import NestedMap
from lingvo_lite.training import registered_gradients


class BatchError(ValueError):
    """A batch that does not have the form of the first one."""


class TraceError(RuntimeError):
    """A second trace of a function that is meant to have one."""


class ReplicaFunction:
    """`body(batch)` in a tf.function; `batch` is the per-replica value of the batches given.

        step = ReplicaFunction(strategy, lambda batch: strategy.run(fn, args=(batch,)), 'eval')
        step([batch_of_replica_0, batch_of_replica_1])

    The first two axes of every field (rows, time) may change from call to call; its type, its
    number of axes and the sizes of its other axes are those of the first call.

    Args:
      strategy: a tf.distribute strategy; tf.distribute.get_strategy() for one device.
      body: called once, when traced, in cross-replica context.
      name: of the function, in messages.
      jit_compile: whether XLA compiles it, once for every shape. One replica only.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        body: Callable[[Any], Any],
        name: str,
        jit_compile: bool = False,
    ):
        self.num_traces = 0
        self._strategy = strategy
        self._body = body
        self._name = name
        self._jit_compile = jit_compile
        self._num_local = NumLocalReplicas(strategy)
        self._specs: dict[str, tf.TensorSpec] = {}
        self._structure = NestedMap()
        self._function: Any = None

    def __call__(self, batches: Sequence[NestedMap]) -> Any:
        """What `body` returns.

        Args:
          batches: one for each replica of this worker, of numpy arrays or tensors.

        Raises:
          BatchError: if the number of batches, or the form of one, is not what is expected.
          TraceError: if TensorFlow traces the function a second time.
        """
        if len(batches) != self._num_local:
            raise BatchError(
                f'{self._name}: this worker has {self._num_local} replicas, '
                f'got {len(batches)} batches.'
            )
        # The host's memory: each replica fetches its part from there.
        with tf.device('CPU:0'):
            items = [
                [(path, tf.convert_to_tensor(value)) for path, value in batch.FlattenItems()]
                for batch in batches
            ]
        if self._function is None:
            self._structure = batches[0].Transform(lambda value: None)
            self._specs = {path: _Spec(value) for path, value in items[0]}
        for replica, each in enumerate(items):
            self._CheckForm(replica, dict(each))
        if self._function is None:
            flat = list(self._specs.values()) * self._num_local
            self._function = tf.function(
                self._Trace,
                autograph=False,
                input_signature=[flat],
                jit_compile=self._jit_compile or None,
            )
        return self._function([value for each in items for _, value in each])

    def _Trace(self, flat: list[tf.Tensor]) -> Any:
        if tf.executing_eagerly():  # under tf.config.run_functions_eagerly nothing is traced
            return self._body(self._PerReplica(flat))
        self.num_traces += 1
        if self.num_traces > 1:
            raise TraceError(
                f'{self._name} is traced a second time: one trace serves all batches. '
                'The usual reason is a call under another strategy or device scope than the first.'
            )
        try:
            with registered_gradients.Forgotten():
                return self._body(self._PerReplica(flat))
        except BaseException:
            self.num_traces -= 1  # a trace that failed is none
            raise

    def _PerReplica(self, flat: list[tf.Tensor]) -> Any:
        size = len(self._specs)
        batches = [
            self._structure.Pack(flat[i * size : (i + 1) * size]) for i in range(self._num_local)
        ]
        if self._num_local == 1:
            return batches[0]
        rest = iter(batches)
        return self._strategy.experimental_distribute_values_from_function(lambda _: next(rest))

    def _CheckForm(self, replica: int, batch: dict[str, tf.Tensor]) -> None:
        missing = sorted(self._specs.keys() - batch.keys())
        more = sorted(batch.keys() - self._specs.keys())
        if missing or more:
            raise BatchError(
                f'{self._name}: the batch of replica {replica} has not the fields of the first '
                f'batch. Missing: {", ".join(missing) or "none"}; '
                f'unexpected: {", ".join(more) or "none"}.'
            )
        for path, spec in self._specs.items():
            value = batch[path]
            if value.dtype != spec.dtype or not spec.shape.is_compatible_with(value.shape):
                raise BatchError(
                    f'{self._name}: {path} of replica {replica} is {value.dtype.name} '
                    f'{value.shape.as_list()}, the first batch had {spec.dtype.name} '
                    f'{spec.shape.as_list()}. Only the first two axes may change.'
                )


def NumLocalReplicas(strategy: tf.distribute.Strategy) -> int:
    """How many replicas this worker has."""
    if strategy.num_replicas_in_sync == 1:
        return 1
    return len(strategy.extended.worker_devices)


def FirstLocal(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """The value on this worker's first replica."""
    return strategy.experimental_local_results(value)[0]


def _Spec(value: tf.Tensor) -> tf.TensorSpec:
    shape = [None if axis < 2 else size for axis, size in enumerate(value.shape)]
    return tf.TensorSpec(shape, value.dtype)
