"""Python in a process of its own, whose memory is its own too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import tiny_experiment


@pytest.fixture
def run_python(data_folder):
    """run_python('-m', 'module', ...): ended; it finds tiny_experiment and its data."""
    folder = os.path.dirname(tiny_experiment.__file__)
    env = {**os.environ, 'PYTHONPATH': folder, 'LINGVO_LITE_DATA': str(data_folder)}

    def Run(*arguments):
        return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True)

    return Run
