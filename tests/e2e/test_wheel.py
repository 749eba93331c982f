"""The wheel, installed apart from the repository and used from an empty directory."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    folder, source = tmp_path_factory.mktemp('wheel'), tmp_path_factory.mktemp('source')
    for name in ('lingvo_lite', 'tasks', 'tools'):  # a build leaves files in the source
        shutil.copytree(REPOSITORY / name, source / name)
    for name in ('setup.cfg', 'pyproject.toml', 'README.md'):
        shutil.copy(REPOSITORY / name, source)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', folder, source], check=True
    )
    (path,) = folder.glob('lingvo_lite-*.whl')
    return path


@pytest.fixture(scope='module')
def run(wheel, tmp_path_factory):
    """run(*arguments): python with the wheel's lingvo_lite, in an empty directory."""
    site = tmp_path_factory.mktemp('site')
    pip = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', site, wheel]
    subprocess.run(pip, check=True)
    empty = tmp_path_factory.mktemp('empty')

    def Run(*arguments):
        found = subprocess.run(
            [sys.executable, *arguments],
            cwd=empty,
            env={**os.environ, 'PYTHONPATH': str(site)},
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    source = Run('-c', 'import lingvo_lite.tasks; print(lingvo_lite.tasks.__file__)')
    assert source.startswith(str(site)), source
    return Run


@pytest.mark.slow
def test_nothing_of_ours_lies_outside_of_lingvo_lite(wheel):
    top = {name.split('/')[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith('.dist-info')} == {'lingvo_lite'}


@pytest.mark.slow
def test_it_trains_and_decodes(run, tmp_path):
    assert 'mt.NumbersEnDe' in run('-m', 'lingvo_lite.cli', 'list').split()
    job = ('-m', 'lingvo_lite.cli')
    flags = ('--model=mt.NumbersEnDe', f'--logdir={tmp_path}/run')
    small = [f'--set=task.{stack}.num_layers=1' for stack in ('encoder', 'decoder')]
    run(*job, 'trainer', *flags, '--set=task.train.max_steps=2', *small)
    run(*job, 'evaler', *flags, '--dataset=Dev')
    assert (tmp_path / 'run/eval_dev/metrics.jsonl').read_text().count('\n') == 1
