"""Real processes on the tiny experiment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import tiny_experiment


@pytest.fixture(scope='session')
def environment(tmp_path_factory):
    """Environment of the jobs: their data, their cache, and where the experiment is."""
    data = tmp_path_factory.mktemp('data')
    tiny_experiment.WriteData(data)
    return {
        **os.environ,
        'PYTHONPATH': os.path.dirname(__file__),
        'LINGVO_LITE_DATA': str(data),
        'LINGVO_LITE_CACHE': str(tmp_path_factory.mktemp('cache')),
    }


@pytest.fixture
def start(environment):
    """start('trainer', run, *flags) -> Popen; what still runs at the end is killed."""
    started = []

    def Start(job, run, *flags, **kwargs):
        command = [sys.executable, '-m', 'lingvo_lite.cli', job]
        command += ['--model=tiny_experiment.Digits', f'--logdir={run}', *flags]
        process = subprocess.Popen(
            command,
            env={**environment, **kwargs.pop('env', {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **kwargs,
        )
        started.append(process)
        return process

    yield Start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
