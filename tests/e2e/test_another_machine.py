"""A run that is copied to a machine with no data, no home and an empty cache works there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import tiny_experiment

from lingvo_lite import cli
from lingvo_lite.inputs import data_files
from lingvo_lite.inputs.speech import audio

MODEL = '--model=tiny_experiment.Digits'
TOKENIZER = [
    '--set=input.tokenizer=lingvo_lite.inputs.SentencePieceTokenizer',
    '--set=input.tokenizer.vocab_size=32',
    "--set=input.tokenizer.train_files=['tiny/train.src', 'tiny/train.tgt']",
]
SPEECH = [
    '--set=task.encoder.conv_channels=[4, 4, 4]',
    '--set=task.encoder.hidden_dim=16',
    '--set=task.encoder.rnn.cell.cell_dim=8',
    '--set=task.train.max_steps=2',
    '--set=task.train.save_interval_steps=2',
    '--set=task.train.precision=float32',
]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with a run of text and one of speech; where they were trained is gone."""
    folder = tmp_path_factory.mktemp('trained')
    here = tmp_path_factory.mktemp('here')
    tiny_experiment.WriteData(here / 'data')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.path.dirname(__file__))
        patch.setenv('LINGVO_LITE_DATA', str(here / 'data'))
        patch.setenv('LINGVO_LITE_CACHE', str(here / 'cache'))
        flags = [MODEL, f'--logdir={here}/text', '--set=task.train.max_steps=10', *TOKENIZER]
        assert cli.Trainer(flags) == 0
        assert cli.Trainer(['--model=asr.SpokenDigits', f'--logdir={here}/speech', *SPEECH]) == 0
        data_files.SetDataDir(None)
    for name in ('text', 'speech'):
        shutil.copytree(here / name, folder / name)
    shutil.rmtree(here)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """run(command, *flags, text='') -> CompletedProcess, on a machine that has nothing."""
    for name in ('home', 'cache', 'data', 'work'):
        (tmp_path / name).mkdir()
    copies = shutil.copytree(trained, tmp_path / 'copied')
    environment = {
        **os.environ,
        'PYTHONPATH': os.path.dirname(__file__),
        'HOME': str(tmp_path / 'home'),
        'LINGVO_LITE_CACHE': str(tmp_path / 'cache'),
        'LINGVO_LITE_DATA': str(tmp_path / 'data'),
    }

    def Run(command, name, *flags, text=''):
        return subprocess.run(
            [sys.executable, '-m', 'lingvo_lite.cli', command, f'--logdir={copies / name}', *flags],
            env=environment,
            cwd=tmp_path / 'work',
            input=text,
            capture_output=True,
            text=True,
        )

    return Run


def test_text_is_decoded(run):
    done = run('decoder', 'text', '--import=tiny_experiment', '--input=-', text='305\n7\n')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('\n') == 2


def test_audio_is_decoded_without_naming_the_experiment(run, tmp_path):
    wave = tiny_experiment.Tone(8000)
    (tmp_path / 'work' / 'a.wav').write_bytes(audio.EncodeWav(wave, 8000))
    done = run('decoder', 'speech', '--input=a.wav')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('\n') == 1


def test_given_files_are_scored(run, tmp_path):
    tiny_experiment.WriteData(tmp_path / 'mine')
    files = [
        f'--set=input.source_file={tmp_path}/mine/tiny/test.src',
        f'--set=input.target_file={tmp_path}/mine/tiny/test.tgt',
    ]
    for command, folder in (('evaler', 'eval_dev'), ('decoder', 'decode_dev')):
        done = run(command, 'text', '--import=tiny_experiment', '--dataset=Dev', '--once', *files)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / 'copied' / 'text' / folder / 'metrics.jsonl').read_text()
        assert json.loads(lines)['examples'] == 21


def test_another_run_starts_from_it(run, tmp_path):
    """With its own data and tokens: rows by token."""
    tiny_experiment.WriteData(tmp_path / 'data')
    settings = [MODEL, f'--set=task.train.init_from={tmp_path}/copied/text', *TOKENIZER]
    settings += ['--set=input.tokenizer.model_type=bpe', '--set=task.train.max_steps=2']
    (tmp_path / 'copied' / 'new').mkdir()
    refused = run('trainer', 'new', *settings)
    assert refused.returncode == 2
    assert 'task.train.init_from_tokens=by_text' in refused.stderr
    done = run('trainer', 'new', *settings, '--set=task.train.init_from_tokens=by_text')
    assert done.returncode == 0, done.stderr
    assert 'loaded by token' in done.stderr


def test_a_damaged_file_of_the_run_is_told_in_a_line(run, tmp_path):
    (model,) = (tmp_path / 'copied' / 'text' / 'files').glob('*.model')
    model.write_bytes(model.read_bytes()[:-1] + b'x')
    done = run('decoder', 'text', '--import=tiny_experiment', '--input=-', text='305\n')
    assert done.returncode == 2
    assert 'is damaged: its SHA-256' in done.stderr.strip().split('\n')[-1]


def test_another_experiment_is_refused(run):
    done = run('decoder', 'text', '--import=tiny_experiment', '--model=mt.NumbersEnDe', '--input=-')
    assert done.returncode == 2
    assert 'holds a run of tiny_experiment.Digits, not of mt.NumbersEnDe' in done.stderr


def test_a_module_that_only_a_file_names_is_not_imported(run):
    done = run('decoder', 'text', '--input=-', text='305\n')
    assert done.returncode == 2
    assert '--model=tiny_experiment.Digits' in done.stderr
