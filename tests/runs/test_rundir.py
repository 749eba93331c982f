import errno
import json
import os
import threading

import pytest

import lingvo_lite
from lingvo_lite import hyperparams
from lingvo_lite.runs import atomic, rundir, vocabulary


class Encoder:
    @classmethod
    def Params(cls):
        p = hyperparams.InstantiableParams(cls)
        p.Define('num_layers', 6, 'Depth.')
        p.Define('dropout', 0.0, 'Share of activations.')
        return p


class WideEncoder(Encoder):
    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('width', 9, 'Size.')
        return p


def MakeParams(model='mt.WmtEnDe', added=(), drop=()):
    """Params as a trainer has them; `added` and `drop` are changes in the code."""
    train = hyperparams.Params()
    train.Define('max_steps', 1000, 'When to stop.', resume='free')
    train.Define('learning_rate', 0.5, 'Step size.')
    for name, default in added:
        train.Define(name, default, 'What the code has learnt since.')
    train.Delete(*drop)
    task = hyperparams.Params()
    task.Define('train', train, 'Training.')
    task.Define('encoder', Encoder.Params(), 'Encoder.', bound=Encoder)
    p = hyperparams.Params()
    p.Define('model', model, 'Name of the experiment.')
    p.Define('task', task, 'The task.')
    return p.Copy()


@pytest.fixture
def run(tmp_path):
    run = rundir.RunDir(str(tmp_path / 'RUN'))
    run.Create(run.train)
    return run


def Files(run):
    return {name for name in os.listdir(run.path) if name.endswith('.txt')}


# Paths.


@pytest.mark.parametrize('path', ['gs://bucket/run', 'hdfs://a/b', 's3://x', 'file:///tmp/x'])
def test_what_is_no_posix_directory_is_refused_with_that_reason(path):
    scheme = path.split(':')[0]
    with pytest.raises(hyperparams.ConfigError, match=f'{scheme}:// is no POSIX directory.*hard'):
        rundir.RunDir(path)


def test_folders_have_the_names_of_jobs_and_datasets(run):
    assert run.train == f'{run.path}/train'
    assert run.best == f'{run.path}/best'
    assert run.Folder('eval', 'Dev') == f'{run.path}/eval_dev'
    assert run.Folder('decode', 'TestOther2016') == f'{run.path}/decode_test_other2016'
    with pytest.raises(hyperparams.ConfigError, match="'../x' is no name of a dataset"):
        run.Folder('eval', '../x')


def test_a_log_directory_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    # Tests may run as root, whom no mode bits stop.
    def ReadOnly(path, mode='r', *args, **kwargs):
        raise OSError(errno.EROFS, 'Read-only file system', path)

    monkeypatch.setattr('builtins.open', ReadOnly)
    with pytest.raises(hyperparams.ConfigError, match=r'cannot be written \(Read-only file system'):
        rundir.RunDir(str(tmp_path)).Create()


def test_a_log_directory_that_cannot_be_made_is_refused():
    with pytest.raises(hyperparams.ConfigError, match='/proc/RUN cannot be written'):
        rundir.RunDir('/proc/RUN').Create()


def test_a_file_is_no_log_directory(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(hyperparams.ConfigError, match='file is a file. Give a directory.'):
        rundir.RunDir(str(tmp_path / 'file')).Create()


# Params.


def test_params_are_written_byte_for_byte(run):
    p = MakeParams().Set(**{'task.encoder.dropout': 0.1})
    run.WriteParams(p, step=0)
    assert run.ReadParams() == p.ToText()
    assert MakeParams().FromText(run.ReadParams()) == p
    assert run.Model() == 'mt.WmtEnDe'


def test_going_on_with_the_same_params_changes_nothing(run):
    run.WriteParams(MakeParams(), step=0)
    before = os.stat(run.params_file).st_mtime_ns
    assert run.WriteParams(MakeParams(), step=500) == ([], [])
    assert (Files(run), os.stat(run.params_file).st_mtime_ns) == ({'params.txt'}, before)


def test_a_fixed_param_that_changes_is_an_error_and_the_run_stays_as_it_was(run):
    run.WriteParams(MakeParams(), step=0)
    p = MakeParams().Set(**{'task.encoder.num_layers': 4, 'task.train.max_steps': 2000})
    with pytest.raises(hyperparams.ConfigError) as error:
        run.WriteParams(p, step=500)
    assert str(error.value) == (
        f'{run.path} holds a run of mt.WmtEnDe with other params: task.encoder.num_layers 6 -> 4 '
        '(fixed for a run). Use a new --logdir, or take the change back.'
    )
    assert run.ReadParams() == MakeParams().ToText()
    assert Files(run) == {'params.txt'}


def test_a_free_param_may_change_and_each_state_of_the_params_is_kept(run, caplog):
    caplog.set_level('INFO')
    first, second = MakeParams(), MakeParams().Set(**{'task.train.max_steps': 2000})
    run.WriteParams(first, step=0)

    changes = run.WriteParams(second, step=500)

    assert changes.changed == ['task.train.max_steps 1000 -> 2000']
    assert 'from step 500 on, task.train.max_steps 1000 -> 2000.' in caplog.text
    assert run.ReadParams() == second.ToText()
    assert Files(run) == {'params.txt', 'params-00000000.txt', 'params-00000500.txt'}
    with open(f'{run.path}/params-00000000.txt', encoding='utf-8') as file:
        assert file.read() == first.ToText()
    with open(f'{run.path}/params-00000500.txt', encoding='utf-8') as file:
        assert file.read() == second.ToText()


def test_a_param_added_to_the_code_takes_its_default_and_is_listed(run, caplog):
    caplog.set_level('INFO')
    run.WriteParams(MakeParams(), step=0)
    changes = run.WriteParams(MakeParams(added=[('label_smoothing', 0.0)]), step=500)
    assert changes.added == ['task.train.label_smoothing 0.0']
    assert 'task.train.label_smoothing 0.0' in caplog.text
    assert 'task.train.label_smoothing : 0.0' in run.ReadParams()


def test_an_added_param_with_another_value_would_change_the_run(run):
    run.WriteParams(MakeParams(), step=0)
    p = MakeParams(added=[('label_smoothing', 0.0)]).Set(**{'task.train.label_smoothing': 0.1})
    with pytest.raises(hyperparams.ConfigError, match='task.train.label_smoothing 0.1 .added to'):
        run.WriteParams(p, step=500)


def test_an_added_part_may_have_defaults_other_than_those_of_its_class(run):
    run.WriteParams(MakeParams(), step=0)
    p = MakeParams(added=[('teacher', Encoder.Params().Set(num_layers=2))])
    assert 'task.train.teacher.num_layers 2' in run.WriteParams(p, step=500).added


def test_a_param_that_the_code_has_lost_is_an_error(run):
    run.WriteParams(MakeParams(), step=0)
    with pytest.raises(hyperparams.ConfigError, match=r'task.train.learning_rate 0.5 \(the code'):
        run.CheckParams(MakeParams(drop=['learning_rate']))


def test_another_class_is_named_once_without_the_params_below_it(run):
    run.WriteParams(MakeParams(), step=0)
    p = MakeParams()
    p.task.encoder = WideEncoder.Params().Set(num_layers=2)
    with pytest.raises(hyperparams.ConfigError) as error:
        run.CheckParams(p)
    assert 'WideEncoder' in str(error.value)
    assert 'num_layers' not in str(error.value)


def test_a_run_of_another_model_is_refused(run):
    run.WriteParams(MakeParams(), step=0)
    with pytest.raises(hyperparams.ConfigError) as error:
        run.WriteParams(MakeParams('asr.Librispeech'), step=0)
    assert str(error.value) == (
        f'{run.path} holds a run of mt.WmtEnDe, not of asr.Librispeech. Use a new --logdir.'
    )


def test_without_params_there_is_no_run(run):
    assert not run.HasParams()
    with pytest.raises(hyperparams.ConfigError, match='holds no run: there is no params.txt'):
        run.ReadParams()
    with open(run.params_file, 'w', encoding='utf-8') as file:
        file.write('something else\n')
    with pytest.raises(hyperparams.ConfigError, match='params.txt is not the file of a run'):
        run.CheckParams(MakeParams())


def test_waiting_for_params_ends_when_they_are_there_or_the_job_is_stopped(run):
    stop = threading.Event()
    p = MakeParams()
    timer = threading.Timer(0.05, lambda: run.WriteParams(p, step=0))
    guard = threading.Timer(5.0, stop.set)
    timer.start()
    guard.start()
    assert run.WaitForParams(stop, poll_s=0.01)
    guard.cancel()
    timer.join()
    os.remove(run.params_file)
    stop.set()
    assert not run.WaitForParams(stop)


# Other files.


def test_finished_is_there_from_mark_to_clear(run):
    assert not run.IsFinished()
    run.MarkFinished(1000)
    assert run.IsFinished()
    run.ClearFinished()
    run.ClearFinished()
    assert not run.IsFinished()


def test_every_start_is_recorded_with_arguments_versions_and_machine(run):
    run.WriteCommand(['trainer', '--model=mt.WmtEnDe'])
    run.WriteCommand(['trainer', '--model=mt.WmtEnDe', '--set=a=1'])
    with open(f'{run.path}/command.json', encoding='utf-8') as file:
        first, second = json.load(file)
    assert first['argv'] == ['trainer', '--model=mt.WmtEnDe']
    assert second['argv'][-1] == '--set=a=1'
    assert second['versions']['lingvo_lite'] == lingvo_lite.__version__
    assert second['versions']['tensorflow'].startswith('2.')
    assert second['pid'] == os.getpid()
    assert {'git', 'host', 'python', 'time', 'folder', 'machine'} <= set(second)


def test_variables_are_a_text_file(run):
    run.WriteVariables('encoder/w  [3, 4]')
    with open(f'{run.path}/variables.txt', encoding='utf-8') as file:
        assert file.read() == 'encoder/w  [3, 4]\n'


@pytest.mark.parametrize('broken', ['os.replace', 'os.fsync'])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = str(tmp_path / 'params.txt')
    atomic.Write(path, 'old')

    def Fail(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(broken, Fail)
        with pytest.raises(OSError, match='No space left'):
            atomic.Write(path, 'new')
    assert os.listdir(tmp_path) == ['params.txt']
    with open(path, encoding='utf-8') as file:
        assert file.read() == 'old'


def test_another_vocabulary_is_refused(tmp_path):
    run = rundir.RunDir(str(tmp_path))
    run.CheckVocabulary('characters-1')  # a new run takes any
    run.WriteVocabulary(vocabulary.Vocabulary('characters-1'))
    run.WriteVocabulary(vocabulary.Vocabulary('characters-2'))  # the first one counts
    run.CheckVocabulary('characters-1')
    with pytest.raises(hyperparams.ConfigError, match='vocabulary characters-1, this one is '):
        run.CheckVocabulary('characters-2')
