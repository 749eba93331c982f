"""The processes that train together, as the environment names them: TF_CONFIG, or a Slurm step.

Slurm is read by TensorFlow's SlurmClusterResolver, except for three things that it gets wrong
(TensorFlow 2.16): it fails where there are no GPUs; it takes a node's GPUs apart anew where Slurm
has given each task its own; and it sorts nodes as text, so that n10 stands before n2 and ranks
belong to other nodes than Slurm's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import hyperparams

_JOBS = ('chief', 'worker')  # those that train, in the order of their numbers
# Ports of Slurm steps: below those that Linux gives away by itself, 16 tasks to a node and job.
_FIRST_PORT, _PORTS, _PER_JOB = 20000, 12000, 16


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster, and this process in it.

    Attributes:
      addresses: {'worker': ['host:port', ...]}; there may be a 'chief' too.
      job: 'worker' or 'chief', what this process is.
      index: of this process among those of its job.
      source: 'TF_CONFIG' or 'Slurm'.
    """

    addresses: dict[str, list[str]]
    job: str
    index: int
    source: str

    @property
    def num_workers(self) -> int:
        """How many processes train."""
        return sum(map(len, self.addresses.values()))

    @property
    def worker(self) -> int:
        """The number of this process among all that train; 0 writes what they have in common."""
        before = len(self.addresses.get('chief', [])) if self.job == 'worker' else 0
        return before + self.index


def Size() -> int:
    """How many processes are to train together; 0 if the environment names no cluster.

    Raises:
      hyperparams.ConfigError: if what it names is no cluster.
    """
    config = _TfConfig()
    if config is not None:
        return sum(map(len, _Addresses(config).values()))
    return _SlurmNumber('SLURM_STEP_NUM_TASKS') or 0


def Find() -> Cluster:
    """The cluster that the environment names.

    Raises:
      hyperparams.ConfigError: if there is none, or this process has no place in it.
    """
    config = _TfConfig()
    if config is not None:
        return _FromTfConfig(config)
    if 'SLURM_STEP_NUM_TASKS' in os.environ:
        return _FromSlurm()
    raise hyperparams.ConfigError(
        '--strategy=multi_worker needs a cluster: set TF_CONFIG, start under Slurm (srun), or use '
        'python -m lingvo_lite.tools.launch_local.'
    )


def _TfConfig() -> Optional[dict[str, Any]]:
    """TF_CONFIG as JSON; None if it is not set."""
    text = os.environ.get('TF_CONFIG')
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise hyperparams.ConfigError(f'TF_CONFIG is no cluster: {error}.') from None
    if not isinstance(config, dict):
        raise hyperparams.ConfigError(f'TF_CONFIG is no cluster: {text!r} is no JSON object.')
    return config


def _Addresses(config: dict[str, Any]) -> dict[str, list[str]]:
    """{job: addresses} of those that train."""
    named = config.get('cluster', {})
    found = {}
    for job in _JOBS:
        addresses = named.get(job, []) if isinstance(named, dict) else None
        if not isinstance(addresses, list) or not all(isinstance(a, str) for a in addresses):
            raise hyperparams.ConfigError(
                "TF_CONFIG is no cluster: {'cluster': {'worker': ['host:port', ...]}, 'task': "
                f"{{'type': 'worker', 'index': 0}}}} is expected, cluster is {named!r}."
            )
        if addresses:
            found[job] = addresses
    return found


def _FromTfConfig(config: dict[str, Any]) -> Cluster:
    addresses = _Addresses(config)
    task = config.get('task')
    task = task if isinstance(task, dict) else {}
    job, index = task.get('type'), str(task.get('index'))
    known = ', '.join(f'{len(found)} {name}' for name, found in addresses.items()) or 'nothing'
    if job not in addresses or not index.isdigit() or int(index) >= len(addresses[job]):
        raise hyperparams.ConfigError(
            f'TF_CONFIG: task is {config.get("task")!r}, and the cluster that trains is {known}.'
        )
    return Cluster(addresses, job, int(index), 'TF_CONFIG')


def _FromSlurm() -> Cluster:
    tasks = _SlurmNumber('SLURM_STEP_NUM_TASKS')
    rank = _SlurmNumber('SLURM_PROCID')
    missing = [
        name
        for name in ('SLURM_PROCID', 'SLURM_STEP_NODELIST', 'SLURM_STEP_TASKS_PER_NODE')
        if not os.environ.get(name)
    ]
    if missing or rank is None:
        raise hyperparams.ConfigError(
            f'A Slurm step of {tasks} tasks without {", ".join(missing)}: start the trainer by '
            'srun, and let the environment through.'
        )
    port = _FIRST_PORT + (_SlurmNumber('SLURM_JOB_ID') or 0) * _PER_JOB % _PORTS
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().as_dict()['worker']
    except (RuntimeError, ValueError) as error:
        raise hyperparams.ConfigError(f'Slurm: {error}') from None
    if rank >= len(addresses):
        raise hyperparams.ConfigError(f'Slurm: SLURM_PROCID={rank}, of {tasks} tasks.')
    addresses = sorted(addresses, key=_AsSlurmSorts)
    own, node = addresses[rank].rpartition(':')[0], os.environ.get('SLURMD_NODENAME')
    if node and node != own:
        raise hyperparams.ConfigError(
            f'Slurm runs task {rank} on {node}, where {own} is expected from the order of '
            f'{os.environ["SLURM_STEP_NODELIST"]}. Use srun --distribution=block.'
        )
    return Cluster({'worker': addresses}, 'worker', rank, 'Slurm')


def _SlurmNumber(name: str) -> Optional[int]:
    """An integer of Slurm's environment; None if it is not set."""
    text = os.environ.get(name)
    if not text:
        return None
    if not text.isdigit():
        raise hyperparams.ConfigError(f'{name} must be a whole number, got {text!r}.')
    return int(text)


def _AsSlurmSorts(address: str) -> list[Any]:
    """A key that sorts n2 before n10: texts and numbers in turn."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', address)]
