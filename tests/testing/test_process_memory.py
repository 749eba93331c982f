"""What a process holds, what it gives back, and the limit of tools/test.sh."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import weakref

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.testing import process_memory

MB = 2**20
TESTS = pathlib.Path(__file__).resolve().parents[1]


def test_what_is_allocated_is_held_until_it_is_freed():
    before = process_memory.Held()
    values = np.ones(64 * MB // 8)
    held = process_memory.Held()
    assert values.nbytes == 64 * MB and 60 * MB < held - before < 100 * MB
    assert process_memory.Peak() >= held
    if not os.path.exists('/proc/self/statm'):
        return  # only the peak is known
    del values
    process_memory.Collect()
    assert process_memory.Held() < held - 60 * MB


def test_graphs_with_custom_gradients_are_collected():
    graphs = []

    def Silu(x):
        graphs.append(weakref.ref(tf.compat.v1.get_default_graph()))
        return tf.nn.silu(x)

    tf.function(Silu).get_concrete_function(tf.TensorSpec([2]))
    process_memory.Collect()
    assert graphs[0]() is not None
    process_memory.CollectGraphs()
    assert graphs[0]() is None


@pytest.mark.slow
@pytest.mark.parametrize(('limit', 'code'), [(1, 1), (100_000, 0)])
def test_the_module_that_takes_too_much_is_named(limit, code):
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider']
    done = subprocess.run(
        [*command, str(TESTS / 'testing/test_golden.py')],
        env={**os.environ, 'LINGVO_LITE_TEST_MEMORY_MB': str(limit)},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout
    assert ('tests/testing/test_golden.py: this process has held' in done.stdout) == (code == 1)
    assert done.stdout.count('ERROR at teardown') == code  # once, not at every test behind it
