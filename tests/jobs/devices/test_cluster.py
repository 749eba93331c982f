"""Which cluster the environment names, and which of its workers this process is."""

import json
import os

import pytest

from lingvo_lite import hyperparams
from lingvo_lite.jobs.devices import cluster


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """environment(TF_CONFIG={...}, SLURM_PROCID=1): nothing else of a cluster is set."""
    for name in list(os.environ):
        if name == 'TF_CONFIG' or name.startswith('SLURM'):
            monkeypatch.delenv(name)

    def Set(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value if isinstance(value, str) else json.dumps(value))

    return Set


def Slurm(tasks, rank, nodes, per_node, **more):
    names = ('STEP_NUM_TASKS', 'PROCID', 'STEP_NODELIST', 'STEP_TASKS_PER_NODE')
    found = {f'SLURM_{k}': str(v) for k, v in zip(names, (tasks, rank, nodes, per_node))}
    return {**found, **more}


def TfConfig(job, index, **addresses):
    return {'cluster': addresses, 'task': {'type': job, 'index': index}}


def Hosts(found):
    return [address.rpartition(':')[0] for address in found.addresses['worker']]


@pytest.mark.parametrize('index', [2, '2'])  # Kubeflow writes a number, others a text
def test_a_worker_of_tf_config(environment, index):
    environment(TF_CONFIG=TfConfig('worker', index, worker=['a:1', 'b:1', 'c:2'], ps=['d:1']))
    assert cluster.Size() == 3
    found = cluster.Find()
    assert (found.worker, found.num_workers, found.source) == (2, 3, 'TF_CONFIG')
    assert found.addresses == {'worker': ['a:1', 'b:1', 'c:2']}


def test_a_chief_comes_first(environment):
    both = {'chief': ['a:1'], 'worker': ['b:1', 'c:1']}
    environment(TF_CONFIG=TfConfig('worker', 1, **both))
    assert (cluster.Find().worker, cluster.Find().num_workers) == (2, 3)
    environment(TF_CONFIG=TfConfig('chief', 0, **both))
    assert cluster.Find().worker == 0


@pytest.mark.parametrize(
    ('nodes', 'per_node', 'rank', 'hosts'),
    [
        ('n[1-3]', '1(x3)', 2, ['n1', 'n2', 'n3']),
        ('a,b', '2,1', 1, ['a', 'a', 'b']),
        ('n[2,10]', '2,1', 2, ['n2', 'n2', 'n10']),  # not as text, where n10 < n2
        ('gpu-[08-09],gpu-[10]', '1(x3)', 0, ['gpu-08', 'gpu-09', 'gpu-10']),
    ],
)
def test_a_slurm_step(environment, nodes, per_node, rank, hosts):
    environment(**Slurm(3, rank, nodes, per_node, SLURMD_NODENAME=hosts[rank]))
    assert cluster.Size() == 3
    found = cluster.Find()
    assert Hosts(found) == hosts
    assert (found.job, found.worker, found.num_workers) == ('worker', rank, 3)
    assert len(set(found.addresses['worker'])) == 3  # tasks of a node have ports of their own


def test_gpus_of_a_slurm_task_are_left_to_slurm(environment):
    environment(**Slurm(2, 1, 'n[1-2]', '1(x2)', CUDA_VISIBLE_DEVICES='3,5'))
    cluster.Find()
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '3,5'


def test_two_slurm_jobs_on_a_node_do_not_share_ports(environment):
    ports = []
    for job in ('1041', '1042'):
        environment(**Slurm(16, 0, 'n1', '16', SLURM_JOB_ID=job))
        ports += [int(a.rpartition(':')[2]) for a in cluster.Find().addresses['worker']]
    assert len(set(ports)) == 32 and 1024 < min(ports) and max(ports) < 32768


def test_tf_config_goes_before_slurm(environment):
    environment(TF_CONFIG=TfConfig('worker', 0, worker=['a:1', 'b:1']), **Slurm(3, 0, 'n1', '3'))
    assert cluster.Find().source == 'TF_CONFIG' and cluster.Size() == 2


def test_no_cluster():
    assert cluster.Size() == 0
    with pytest.raises(hyperparams.ConfigError, match='set TF_CONFIG, start under Slurm'):
        cluster.Find()


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('{"cluster": ', 'TF_CONFIG is no cluster'),
        ('[1]', 'is no JSON object'),
        ({'cluster': ['a:1']}, r"\['host:port', ...\]"),
        ({'cluster': {'worker': 'a:1'}}, r"\['host:port', ...\]"),
        ({'cluster': {'worker': ['a:1']}}, 'task is None, and the cluster that trains is 1 worker'),
        (TfConfig('worker', 2, worker=['a:1', 'b:1']), "'index': 2}, and the .* is 2 worker"),
        (TfConfig('evaluator', 0, worker=['a:1'], evaluator=['b:1']), "'type': 'evaluator'"),
        (TfConfig('ps', 0, ps=['a:1']), 'the cluster that trains is nothing'),
    ],
)
def test_a_tf_config_that_is_none(environment, config, message):
    environment(TF_CONFIG=config)
    with pytest.raises(hyperparams.ConfigError, match=message) as error:
        cluster.Find()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'SLURM_PROCID': ''}, 'of 3 tasks without SLURM_PROCID: start the trainer by srun'),
        (
            {'SLURM_STEP_NODELIST': '', 'SLURM_STEP_TASKS_PER_NODE': ''},
            'without SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE:',
        ),
        ({'SLURM_PROCID': 'first'}, "SLURM_PROCID must be a whole number, got 'first'"),
        ({'SLURM_PROCID': '3'}, 'SLURM_PROCID=3, of 3 tasks'),
        ({'SLURM_STEP_NUM_TASKS': '4'}, 'Requested 4 tasks but only 3 were assigned'),
        ({'SLURM_STEP_NODELIST': 'n[1-'}, 'Slurm: Invalid hostlist'),
        ({'SLURMD_NODENAME': 'n3'}, 'task 1 on n3, where n2 is expected.*--distribution=block'),
    ],
)
def test_a_slurm_step_that_is_none(environment, changes, message):
    environment(**{**Slurm(3, 1, 'n[1-3]', '1(x3)'), **changes})
    with pytest.raises(hyperparams.ConfigError, match=message) as error:
        cluster.Find()
    assert '\n' not in str(error.value)
