"""Two processes, each with one replica, train as one."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest


def _FreePorts(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(('127.0.0.1', 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_two_workers_equal_one_and_skip_together(tiny, tmp_path):
    hosts = [f'127.0.0.1:{port}' for port in _FreePorts(2)]
    script = os.path.join(os.path.dirname(__file__), 'one_worker.py')
    processes = []
    for index in range(2):
        cluster = {'cluster': {'worker': hosts}, 'task': {'type': 'worker', 'index': index}}
        processes.append(
            subprocess.Popen(
                [sys.executable, script, str(tmp_path / f'{index}.npz')],
                env={**os.environ, 'TF_CONFIG': json.dumps(cluster), 'TF_CPP_MIN_LOG_LEVEL': '2'},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        for process in processes:
            _, log = process.communicate(timeout=180)
            assert process.returncode == 0, log[-3000:]
    finally:
        for process in processes:
            process.kill()
    first, second = (dict(np.load(tmp_path / f'{index}.npz')) for index in range(2))
    for name, value in first.items():
        if name != 'finding':
            np.testing.assert_array_equal(second[name], value, err_msg=name)
    assert [bool(first[f'finite_{number}']) for number in range(4)] == [True, True, False, True]
    assert first['scale_3'] < first['scale_2']
    assert (str(first['finding']), str(second['finding'])) == ('output first', 'output first')

    one = tiny.Learner(tiny.WorkersParams())
    for number in range(4):
        one.TrainStep([tiny.Join([tiny.WorkersBatch(worker, number) for worker in range(2)])])
    for name, value in tiny.Values(one.State()).items():
        found = first[name.replace('/', '|')]
        np.testing.assert_allclose(found, value, rtol=0.02, atol=1e-3, err_msg=name)
