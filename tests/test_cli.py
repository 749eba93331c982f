"""The commands: what they print, and how they fail."""

from __future__ import annotations

import os
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
        ('task.train.save_interval_steps=0', 'save_interval_steps must be at least 1, got 0.'),
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


def test_list_shows_a_family_or_all(capsys):
    assert run('list', 'mt') == 0
    mt = capsys.readouterr().out.split()
    assert MODEL in mt and all(name.startswith('mt.') for name in mt)
    assert cli.Trainer(['--list']) == 0
    assert set(mt) <= set(capsys.readouterr().out.split())
    assert run('list', 'mtt') == 2
    assert "No family 'mtt'. Families: " in capsys.readouterr().err


def test_show_prints_what_params_txt_will_hold(capsys):
    assert run('show', MODEL, '--set=task.train.max_steps=7') == 0
    text = capsys.readouterr().out.split('\n')
    assert "model : 'mt.NumbersEnDe'" in text and 'task.train.max_steps : 7' in text


def test_show_why_tells_value_meaning_and_origin(capsys):
    assert run('show', MODEL, '--why=task.train.max_steps') == 0
    out = capsys.readouterr().out
    assert 'Stop after this many steps' in out and 'numbers.py:' in out
    assert run('show', MODEL, '--set=task.train.max_steps=7', '--why=task.train.max_steps') == 0
    assert 'set at --set, argument 1' in capsys.readouterr().out


def test_diff_of_models_files_and_log_directories(tmp_path, capsys):
    assert run('show', MODEL) == 0
    (tmp_path / 'run').mkdir()
    text = capsys.readouterr().out
    (tmp_path / 'run/params.txt').write_text(text)
    changed = text.replace('task.train.max_steps : ', 'task.train.max_steps : 9')
    (tmp_path / 'file.txt').write_text(changed)
    assert run('diff', MODEL, str(tmp_path / 'run')) == 0
    assert capsys.readouterr().out == 'no difference\n'
    assert run('diff', str(tmp_path / 'run'), str(tmp_path / 'file.txt')) == 0
    out = capsys.readouterr().out
    assert out.startswith('task.train.max_steps : ') and ' -> 9' in out and out.count('\n') == 1
    assert run('diff', 'mt.WmtEnDe', 'mt.WmtEnDeBig') == 0
    assert 'task.model_dim : 512 -> 1024\n' in capsys.readouterr().out


def test_diff_of_nothing_is_a_mistake(tmp_path, capsys):
    assert run('diff', MODEL, str(tmp_path / 'nothing.txt')) == 2
    assert 'There is no params file or log directory' in capsys.readouterr().err


def test_check_finds_dimensions_that_do_not_fit(capsys):
    assert run('check', MODEL) == 0
    out = capsys.readouterr().out
    assert ' parameters in ' in out and 'Test: NumbersInput, params fit' in out
    assert run('check', MODEL, '--set=task.encoder.num_heads=3') == 2
    assert 'num_heads=3 does not divide' in capsys.readouterr().err


def test_inspect_input_shows_three_batches(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(os.path.dirname(__file__), 'e2e'))
    import tiny_experiment

    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    tiny_experiment.WriteData(tmp_path)
    flags = [f'--data_dir={tmp_path}', '--dataset=Train']
    assert run('inspect-input', 'tiny_experiment.Digits', *flags) == 0
    out = capsys.readouterr().out
    assert out.startswith('400 examples\n')
    assert [f'batch {i}, epoch 0: ' in out for i in range(4)] == [True, True, True, False]
    assert 'padding' in out and 'longest: ' in out and 'train.src' in out
    from lingvo_lite.inputs import source

    source.SetDataDir(None)


def test_a_job_also_starts_as_a_subcommand(capsys):
    assert run('evaler', '--model=mt.NumbersEnDe') == 2
    assert '--logdir and --dataset must be given' in capsys.readouterr().err
    assert run('frobnicate') == 2
    assert run() == 2
