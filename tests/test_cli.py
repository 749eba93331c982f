"""The commands: what they print, and how they fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lingvo_lite import cli

MODEL = 'mt.NumbersEnDe'


def run(*argv):
    """Exit code of lingvo_lite."""
    return cli.Main(list(argv))


def test_flags_are_read_before_tensorflow_is_imported():
    code = (
        'import sys; from lingvo_lite import cli\n'
        "assert cli.Trainer(['--modle=x']) == 2\n"
        'assert cli.Trainer([]) == 2\n'
        "try: cli.Decoder(['--help'])\n"
        'except SystemExit as end: assert end.code == 0\n'
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--modle=x'], 'No flag --modle. Did you mean --model?'),
        (['--model', 'mt.NumbersEnDe'], '--logdir must be given.'),
        ([], "--model and --logdir must be given. 'lingvo_lite list' shows the experiments."),
        (['mt.NumbersEnDe'], "What is 'mt.NumbersEnDe' for? Values belong to flags: --flag=value."),
        (['--mod=x'], 'No flag --mod. Did you mean --model'),
        (['--strategy=three'], 'argument --strategy: invalid choice'),
        (['--threads=-1'], "argument --threads: invalid int >= 0 value: '-1'"),
        (['--profile_steps=5'], "invalid A,B with 0 < A <= B value: '5'"),
        (['--model=asr.Librispech', '--logdir=/nowhere/run'], "No experiment 'asr.Librispech'."),
        (
            ['--model=mt.NumbersEnDe', '--logdir=gs://bucket/run'],
            '--logdir=gs://bucket/run: gs:// is no POSIX directory.',
        ),
        (
            ['--model=mt.NumbersEnDe', '--logdir=/nowhere/run', '--import=no.such.module'],
            '--import=no.such.module: No module named',
        ),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(argv, message, capsys):
    assert cli.Trainer(argv) == 2
    out, error = capsys.readouterr()
    assert out == ''
    assert error.startswith('trainer: ') and error.count('\n') == 1
    assert message in error


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (
            'task.encoder.num_layer=4',
            "mt.NumbersEnDe: task.encoder has no param 'num_layer'. Did you mean 'num_layers'",
        ),
        (
            'task.train.learning_rate=fast',
            "mt.NumbersEnDe: task.train.learning_rate expects float, got 'fast' (str). "
            'Set by --set, argument 2.',
        ),
        (
            'Dve.input.batch_size=3',
            "mt.NumbersEnDe has no dataset 'Dve' (from --set, argument 2). It has: "
            'Dev, Test, Train.',
        ),
        ('Dev.input.batchsize=3', "input has no param 'batchsize'. Did you mean 'batch_size'?"),
        ('Dev.task.x=3', "a dataset has an input, as in 'Dev.input.KEY=VALUE'"),
        ('task.train.save_interval_steps=0', 'save_interval_steps=0 must be at least 1.'),
        ('task.eval.best_metric=bleu', "such as 'eval_dev/log_pplx'; got 'bleu'."),
    ],
)
def test_a_wrong_setting_shows_before_anything_is_written(setting, message, tmp_path, capsys):
    flags = [f'--model={MODEL}', f'--logdir={tmp_path}/run', '--set=task.train.max_steps=5']
    assert cli.Trainer([*flags, f'--set={setting}']) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not (tmp_path / 'run').exists()


def test_missing_data_are_one_line_too(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('LINGVO_LITE_DATA', raising=False)
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path))
    assert cli.Trainer(['--model=mt.WmtEnDe', f'--logdir={tmp_path}/run']) == 2
    error = capsys.readouterr().err
    assert 'wmt_en_de' in error and 'tools/prepare_wmt.py' in error and error.count('\n') == 1


def test_a_job_also_starts_as_a_subcommand(capsys):
    assert run('evaler', '--model=mt.NumbersEnDe') == 2
    assert '--logdir and --dataset must be given' in capsys.readouterr().err
    assert run('frobnicate') == 2
    assert run() == 2
