"""Devices, threads and the strategy of a job."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.jobs.devices import cluster
from lingvo_lite.jobs.faults import lost_resources
from lingvo_lite.training import communication


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the flags ask for.

    Attributes:
      strategy: 'auto', 'one', 'mirrored', 'multi_worker' or 'tpu'.
      replicas: devices of 'mirrored' to use; 0 for all.
      threads: threads to compute with; 0 for TensorFlow's choice.
    """

    strategy: str = 'auto'
    replicas: int = 0
    threads: int = 0


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The devices that a job computes on.

    Attributes:
      strategy: of tf.distribute; for one device the default strategy, which costs nothing.
      worker, num_workers: this process among those of a cluster.
      replicas: replicas of this process.
      description: for the log.
    """

    strategy: Any
    worker: int
    num_workers: int
    replicas: int
    description: str

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what all workers have in common."""
        return self.worker == 0


def Start(
    wish: Wish, deterministic: bool = False, single_worker: bool = False, exchange: Any = None
) -> Runtime:
    """Sets TensorFlow up. To be called once in a process, before anything is computed.

    Args:
      wish: from the flags.
      deterministic: whether ops must run in a fixed order.
      single_worker: whether a cluster in the environment is to be ignored (evaler, decoder).
      exchange: `task.train.communication`; None where nothing is trained.

    Raises:
      hyperparams.ConfigError: if the wish does not fit the machine.
    """
    Configure(wish.threads, deterministic)
    gpus = tf.config.list_physical_devices('GPU')
    kind = wish.strategy
    if kind == 'auto':
        in_cluster = not single_worker and cluster.Size() > 1
        kind = 'multi_worker' if in_cluster else 'mirrored' if len(gpus) > 1 else 'one'
        if wish.replicas > 1 and kind == 'one':
            kind = 'mirrored'
    if kind == 'multi_worker' and single_worker:
        raise hyperparams.ConfigError(
            '--strategy=multi_worker is for the trainer; an evaler or decoder is one process.'
        )
    if wish.replicas and kind != 'mirrored':
        raise hyperparams.ConfigError(f'--replicas goes with --strategy=mirrored, not {kind}.')
    if kind != 'one' and exchange is not None and exchange.implementation == 'nccl' and not gpus:
        raise hyperparams.Fail(
            exchange, "implementation='nccl' needs GPUs, and there is none.", key='implementation'
        )
    if kind == 'one':
        return Runtime(tf.distribute.get_strategy(), 0, 1, 1, _Describe(gpus[:1], 1))
    if kind == 'mirrored':
        return _Mirrored(gpus, wish.replicas)
    if kind == 'multi_worker':
        return _MultiWorker(gpus, exchange)
    return _Tpu()


def Configure(threads: int = 0, deterministic: bool = False) -> None:
    """Options of TensorFlow that hold for every job."""
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices('GPU'):
        # Several jobs of a run may share a GPU.
        tf.config.experimental.set_memory_growth(gpu, True)
    # Our graphs are written lean; Grappler takes longer to find that out than it ever gives back.
    tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def _Mirrored(gpus: list[Any], wanted: int) -> Runtime:
    if gpus:
        if wanted > len(gpus):
            raise hyperparams.ConfigError(f'--replicas={wanted}: there are {len(gpus)} GPUs.')
        count = wanted or len(gpus)
        devices = [f'/gpu:{i}' for i in range(count)]
    else:
        count = wanted or 2
        devices = [f'/cpu:{i}' for i in range(count)]
        _SplitCpu(count)
    strategy = tf.distribute.MirroredStrategy(devices)
    return Runtime(strategy, 0, 1, count, _Describe(gpus[:count], count))


def _SplitCpu(count: int) -> None:
    """Makes several logical devices of the CPU."""
    cpu = tf.config.list_physical_devices('CPU')[0]
    made = tf.config.get_logical_device_configuration(cpu)
    if made is None:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        tf.config.set_logical_device_configuration(cpu, parts)
    elif len(made) < count:
        raise hyperparams.ConfigError(
            f'--replicas={count}: TensorFlow already runs with {len(made)} logical CPUs.'
        )


def _MultiWorker(gpus: list[Any], exchange: Any) -> Runtime:
    found = cluster.Find()
    options = communication.Options(exchange) if exchange is not None else None
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(found.addresses),
        task_type=found.job,
        task_id=found.index,
        num_accelerators={'GPU': len(gpus)},
        rpc_layer='grpc',
    )
    with lost_resources.Cluster(found.num_workers):  # it waits for the others, at most for an hour
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    replicas = strategy.num_replicas_in_sync // found.num_workers
    each = _Describe(gpus, replicas)
    text = f'{found.num_workers} workers ({found.source}) with {each} each; this is worker '
    return Runtime(strategy, found.worker, found.num_workers, replicas, f'{text}{found.worker}')


def _Tpu() -> Runtime:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except Exception as error:
        raise hyperparams.ConfigError(f'--strategy=tpu: no TPU answers: {error}') from None
    strategy = tf.distribute.TPUStrategy(resolver)
    count = strategy.num_replicas_in_sync
    return Runtime(strategy, 0, 1, count, f'{count} TPU cores')


def _Describe(gpus: list[Any], replicas: int) -> str:
    if gpus:
        names = [tf.config.experimental.get_device_details(g).get('device_name') for g in gpus]
        return f'{len(gpus)} x {names[0] or "GPU"}'
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    split = f' as {replicas} logical devices' if replicas > 1 else ''
    return f'{_CpuName()} ({threads} threads){split}'


def _CpuName() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            for line in file:
                if line.startswith('model name'):
                    return line.partition(':')[2].strip()
    except OSError:
        pass
    return 'CPU'
