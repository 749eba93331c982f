"""Nothing that is read from a file, record or flag is executed, unpickled or imported.

Each test hands an input texts and bytes that would run something if anything ran them. `Quiet`
fails if a process is started, a module is imported, or a pickle is opened meanwhile.
"""

import ast
import contextlib
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest

from lingvo_lite import experiment, hyperparams, literals, overrides, registry
from lingvo_lite.inputs import data_files, examples, records, source
from lingvo_lite.inputs.speech import manifests, transcribed, utterances
from lingvo_lite.inputs.text import pairs, parallel, source_text, tokenizers
from lingvo_lite.jobs import restore
from lingvo_lite.jobs.config import describe, job_params
from lingvo_lite.runs import metrics_log, rundir
from lingvo_lite.runs.checkpoints import best, files, tensors
from lingvo_lite.training.debugging import first_bad_layer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = 'mt.NumbersEnDe'
VICTIM = 'xmlrpc.server'  # a module that nothing here imports

NAMES = ['os.system', 'subprocess.Popen', 'builtins.eval', 'builtins.exec', 'os._Environ']
NAMES += ['pickle.Unpickler', 'pathlib.PosixPath', f'{VICTIM}.SimpleXMLRPCServer', '../../x.Y']
NAMES += ['lingvo_lite.cli.os.system', 'builtins.object', 'subprocess.CompletedProcess']
TEXTS = [f'{form}({name!r})' for name in NAMES for form in ('type', 'params', 'enum')]
TEXTS += [
    "os.system('true')",
    "__import__('os').system('true')",
    "eval('1')",
    "(lambda: __import__('os').system('true'))()",
    '[x for x in ().__class__.__base__.__subclasses__()]',
    '!!python/object/apply:os.system ["true"]',
    '!!python/name:os.system',
    "{'__reduce__': ('os.system', ('true',))}.__reduce__()",
    "f\"{__import__('os').system('true')}\"",
    "dtype('os.system')",
    "float('__import__')",
    '$(true)',
    '`true`',
    '%(os.system)s',
]


class Payload:
    """Starts a process when it is unpickled."""

    def __reduce__(self):
        return os.system, ('true',)


PICKLE = pickle.dumps(Payload())


@contextlib.contextmanager
def Quiet():
    """Fails if a process starts, a pickle names a function, or a watched module is imported."""
    events = []

    def Hook(event, args):
        imports = event == 'import' and args[0].split('.')[0] in _WATCHED
        if event in _EVENTS or imports:
            events.append((event, args[0] if args else ''))

    _Hooks.current = Hook
    try:
        yield
    finally:
        _Hooks.current = None
    assert VICTIM not in sys.modules
    assert not events, events


_EVENTS = {'os.system', 'os.exec', 'os.fork', 'os.posix_spawn', 'subprocess.Popen'}
_EVENTS |= {'pickle.find_class'}
_WATCHED = {'xmlrpc', 'victim'}


class _Hooks:
    current = None


def _Audit(event, args, hooks=_Hooks):  # Python's globals are gone when it ends
    if hooks.current is not None:
        hooks.current(event, args)


sys.addaudithook(_Audit)  # cannot be taken back, so it is one that does nothing outside `Quiet`


@contextlib.contextmanager
def Refused(*errors):
    """The error is one clear line, and nothing has run."""
    with Quiet(), pytest.raises(errors or hyperparams.ConfigError) as raised:
        yield raised
    line = str(raised.value)
    assert line and '\n' not in line and 'Traceback' not in line


def test_the_watch_sees_what_it_should():
    for run in (
        lambda: os.system('true'),
        lambda: subprocess.run(['true'], check=True),
        lambda: pickle.loads(PICKLE),
        lambda: __import__('victim'),
    ):
        with pytest.raises(AssertionError), Quiet():
            with contextlib.suppress(ImportError):
                run()
    with Quiet():
        json.loads('[1]')


@pytest.fixture(scope='module')
def params():
    return experiment.RunParams(registry.Get(MODEL), 'Train')


KEYS = [  # of a template, a str, an int, a list, and a tokenizer
    'task.encoder',
    'task.train.init_from',
    'task.train.max_steps',
    'input.bucket_upper_bound',
    'input.tokenizer',
]


@pytest.mark.parametrize('key', KEYS)
def test_params_text_and_settings(params, key):
    if key not in params.ToText():
        pytest.skip(f'no {key} in {MODEL}')
    kind = params.Type(key)
    for written in TEXTS:
        with Quiet():
            changed = params.Copy()
            try:
                changed.FromText(f'{key} : {written}', source='params.txt')
            except hyperparams.ConfigError as error:
                assert '\n' not in str(error) and 'params.txt:1' in str(error)
            else:
                pytest.fail(f'{key} takes {written}: {changed.Get(key)!r}')
            changed = params.Copy()
            try:
                overrides.Apply(changed, [f'{key}={written}'])
            except hyperparams.ConfigError as error:
                assert '\n' not in str(error) and 'argument 1' in str(error)
            else:
                assert kind is str and changed.Get(key) == written  # a text, and nothing else


@pytest.mark.parametrize('name', NAMES)
def test_the_bare_name_of_a_class_for_a_template(params, name):
    with Refused():
        overrides.Apply(params.Copy(), [f'task.encoder={name}'])


def test_params_files(params, tmp_path):
    path = tmp_path / 'p.txt'
    for content in (*(f'task.encoder : {t}\n'.encode() for t in TEXTS), PICKLE, b'\x80\x04.'):
        path.write_bytes(content)
        with Refused():
            overrides.ApplyFile(params.Copy(), str(path))


def test_a_log_directory(params, tmp_path):
    """params.txt, command.json, vocabulary.txt, metrics.jsonl, score.json, checkpoints."""
    run = rundir.RunDir(str(tmp_path))
    run.Create(run.train)
    run.Create(run.best)
    for written in TEXTS:
        (tmp_path / 'params.txt').write_text(
            params.ToText().replace("model : 'mt.NumbersEnDe'", f'model : {written}')
            + f'task.encoder : {written}\n'
        )
        with Refused():
            run.CheckParams(params)
        with Refused():
            experiment.EmptyRunParams().FromText(run.ReadParams(), source=run.params_file)
        with Quiet():
            describe.Diff(str(tmp_path), str(tmp_path))
    # The name of a model in a log directory imports nothing.
    (tmp_path / 'params.txt').write_text(f"model : '{VICTIM}.SimpleXMLRPCServer'\n")
    with Quiet():
        assert run.Model() == f'{VICTIM}.SimpleXMLRPCServer'
        describe.Diff(str(tmp_path), str(tmp_path))
    (tmp_path / 'command.json').write_text(
        json.dumps([{'argv': ['trainer', f'--model={VICTIM}.X', '--import=victim']}])
    )
    (tmp_path / 'vocabulary.txt').write_bytes(b"__import__('os').system('true')")
    with Refused():
        run.CheckVocabulary('bytes-1')
    run.WriteCommand(['trainer', '--logdir=x'])  # starts git, and reads what is there
    assert VICTIM not in sys.modules and 'victim' not in sys.modules
    metrics = str(tmp_path / 'train' / 'metrics.jsonl')
    for line in (PICKLE.replace(b'\n', b''), b'!!python/name:os.system', b'{"step": {"a": 1}}'):
        pathlib.Path(metrics).write_bytes(line + b'\n')
        with Refused(ValueError):
            metrics_log.Read(metrics)
    pathlib.Path(run.best, 'score.json').write_bytes(PICKLE)
    with Refused(ValueError):
        best.ListBest(run.best)
    prefix = files.PrefixOf(run.train, 7)
    for ending in ('.index', '.data-00000-of-00001'):
        pathlib.Path(prefix + ending).write_bytes(PICKLE)
    with Refused(tensors.CorruptError):
        tensors.Restore(prefix, ['w'])


def test_the_position_in_the_input(params, tmp_path):
    run = rundir.RunDir(str(tmp_path))
    run.Create(run.train)
    prefix = files.PrefixOf(run.train, 7)
    learner = types.SimpleNamespace(State=dict)
    for written in (PICKLE, b'[1]', *(each.encode() for each in TEXTS)):
        tensors.Save(prefix, {restore.INPUT_STATE: written})
        with Refused(tensors.CorruptError):
            restore.RestoreUpTo(run, learner, 7)
    inputs = params.Copy().input.Instantiate()
    for written in TEXTS:
        for key in ('order', 'data'):
            with Refused(ValueError):
                next(inputs.Batches(start={'order': 'x', key: written}))


@pytest.mark.parametrize('named', [*NAMES, *TEXTS[:8]])
def test_the_entry_points_of_installed_packages(named, tmp_path, monkeypatch):
    package = tmp_path / 'evil-1.0.dist-info'
    package.mkdir()
    (package / 'METADATA').write_text('Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n')
    points = f'[{registry.GROUP}]\nevil = {named}\nvictim = victim:os.system\n'
    (package / 'entry_points.txt').write_text(points)
    (tmp_path / 'victim.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    with Quiet():
        assert {'evil', 'victim'} <= set(registry.Families())  # and imports neither
        assert registry.Get(MODEL)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    data_files.SetDataDir(str(tmp_path))
    yield tmp_path
    data_files.SetDataDir(None)


def Npz(path, **arrays):
    with open(path, 'wb') as file:
        np.savez(file, **arrays)


EVIL = np.array([Payload()], dtype=object)


def test_records_and_sidecars(data):
    path = str(data / 'x.tfrecord')
    lengths = [[3, 3]] * 3
    payloads = [PICKLE, examples.Encode({'source': PICKLE, 'target': b'x'}), b"os.system('true')"]
    meta = {'tokenizer': "__import__('os').system('true')"}
    with records.ShardWriter(path, pairs.LENGTH_NAMES, meta) as writer:
        for payload, own in zip(payloads, lengths):
            writer.Write(payload, own)
    held = pairs.RecordPairs([path])
    for i in range(3):
        with Refused(source.BadRecordError):
            held.Get(i)
    whole = dict(np.load(records.SidecarPath(path), allow_pickle=False))
    for name in whole:
        Npz(records.SidecarPath(path), **{**whole, name: EVIL})
        with Refused(ValueError):
            records.RecordSource([path])
    pathlib.Path(records.SidecarPath(path)).write_bytes(PICKLE)
    with Refused(ValueError):
        records.RecordSource([path])


def test_text_is_text(data):
    (data / 'a.en').write_text('\n'.join(TEXTS))
    p = source_text.SourceTextInput.Params().Set(batch_size=4, source_file=str(data / 'a.en'))
    with Quiet():
        inputs = p.Instantiate()
        list(inputs.Batches(train=False))
        assert [inputs.Strings(i).source for i in range(len(TEXTS))] == TEXTS


def test_manifests_and_audio(data):
    for file in ('| true', '$(true)', '../../../../bin/true', '/bin/true', 'http://x/y.wav', '`x`'):
        manifests.Write(str(data / 'm.tsv'), [(file, 'a')], ('file', 'transcript'))
        with Refused(source.BadRecordError):
            transcribed.SpeechInput.Params().Set(manifest='m.tsv', batch_size=1).Instantiate()
    (data / 'x.wav').write_bytes(PICKLE)
    with Refused(source.BadRecordError):
        held = source.MemorySource([str(data / 'x.wav')])
        raise utterances.FileUtterances(held).Problem(0)


def test_tokenizer_models_and_the_cache(data):
    (data / 'x.model').write_bytes(PICKLE)
    with Refused(ValueError):
        p = tokenizers.SentencePieceTokenizer.Params().Set(vocab_size=20, model_file='x.model')
        p.Instantiate()
    for name, lines in (('a.en', 'one\ntwo\n'), ('a.de', 'eins\nzwei\n')):
        (data / name).write_text(lines)
    p = parallel.ParallelTextInput.Params().Set(
        batch_size=2, source_file='a.en', target_file='a.de'
    )
    list(p.Instantiate().Batches(train=False))
    (table,) = (data / 'cache' / 'tokens').glob('*.npz')
    for write in (lambda: Npz(table, counts=EVIL), lambda: table.write_bytes(PICKLE)):
        write()
        with Quiet():
            assert len(list(p.Instantiate().Batches(train=False))) == 1


def test_saved_batches(tmp_path):
    path = str(tmp_path / 'bad_batch-00000003.npz')
    Npz(path, **{'replica_0.x': EVIL})
    with Refused(ValueError):
        first_bad_layer.LoadBatch(path)


def test_only_model_and_import_import_modules(tmp_path, monkeypatch):
    (tmp_path / 'victim.py').write_text(
        'from lingvo_lite.layers import base\nclass Layer(base.BaseLayer):\n    pass\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    params = experiment.RunParams(registry.Get(MODEL), 'Train')
    for setting in ('task.encoder=victim.Layer', "task.encoder=params('victim.Layer')"):
        with Refused() as raised:
            overrides.Apply(params.Copy(), [setting])
        assert 'only --model and --import import one' in str(raised.value)
    with Refused():
        params.Copy().FromText("task.encoder : params('victim.Layer')")
    with Refused(literals.LiteralError):
        literals.Parse("type('victim.Layer')")
    assert 'victim' not in sys.modules
    job_params.Import(['victim'])
    overrides.Apply(params.Copy(), ['task.encoder=victim.Layer'])
    del sys.modules['victim']


# The code itself.

CALLS = {'eval', 'exec', 'compile', '__import__'}
MODULES = {
    'pickle',
    'cPickle',
    'marshal',
    'shelve',
    'dill',
    'joblib',
    'cloudpickle',
    'yaml',
    'runpy',
}
METHODS = {('os', 'system'), ('os', 'popen'), ('os', 'execv'), ('os', 'execvp')}
# Who may import by name: the registry, --import, the list of layers of the tests; and literals the
# rooms of lingvo_lite itself that it lists.
IMPORTERS = {
    'lingvo_lite/registry.py',
    'lingvo_lite/literals.py',
    'lingvo_lite/jobs/config/job_params.py',
    'lingvo_lite/testing/public_classes.py',
}
RUNNERS = {'tools/chaos/processes.py'}  # runs lingvo_lite.cli, and nothing else
PROCESSES = {'lingvo_lite/runs/provenance.py'}  # asks git for the commit; tools/ may start others


def Offences(path, tree):
    """What a module does that only few may do, as 'line: what'."""
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split('.')[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module.split('.')[0]]
        if path in RUNNERS:
            names = [name for name in names if name != 'runpy']
        found += [f'{node.lineno}: imports {name}' for name in names if name in MODULES]
        if 'subprocess' in names and path not in PROCESSES and not path.startswith('tools/'):
            found.append(f'{node.lineno}: imports subprocess')
        if not isinstance(node, ast.Call):
            continue
        func = node.func
        if isinstance(func, ast.Name) and func.id in CALLS:
            found.append(f'{node.lineno}: calls {func.id}')
        if isinstance(func, ast.Attribute):
            owner = func.value.id if isinstance(func.value, ast.Name) else ''
            if (owner, func.attr) in METHODS:
                found.append(f'{node.lineno}: calls {owner}.{func.attr}')
            if func.attr == 'import_module' and path not in IMPORTERS:
                found.append(f'{node.lineno}: imports by name')
            if owner == 'np' and func.attr == 'load' and not _Forbids(node, 'allow_pickle'):
                found.append(f'{node.lineno}: np.load without allow_pickle=False')
            if owner == 'tf' and func.attr in ('py_function', 'numpy_function'):
                found.append(f'{node.lineno}: calls tf.{func.attr}')
        found += [
            f'{node.lineno}: {keyword.arg}=True'
            for keyword in node.keywords
            if keyword.arg in ('allow_pickle', 'shell')
            and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        ]
    return found


def _Forbids(call, name):
    return any(
        k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is False
        for k in call.keywords
    )


def test_no_module_executes_or_unpickles():
    modules = [p for room in ('lingvo_lite', 'tasks', 'tools') for p in (ROOT / room).rglob('*.py')]
    assert len(modules) > 100
    found = []
    for path in modules:
        shown = str(path.relative_to(ROOT))
        found += [f'{shown}:{what}' for what in Offences(shown, ast.parse(path.read_text()))]
    assert not found, '\n'.join(found)


@pytest.mark.parametrize(
    'code',
    [
        'import pickle',
        'from yaml import load',
        'eval(x)',
        'exec(x)',
        'os.system(x)',
        'np.load(x)',
        'np.load(x, allow_pickle=True)',
        'np.save(x, y, allow_pickle=flag)',
        'importlib.import_module(x)',
        'import subprocess',
        'f(shell=True)',
    ],
)
def test_the_scan_finds_what_it_should(code):
    assert Offences('lingvo_lite/x.py', ast.parse(code))
    assert not Offences('lingvo_lite/x.py', ast.parse('np.load(x, allow_pickle=False)'))


def test_the_data_of_a_pickle_is_never_opened_by_numpy():
    """What the tests above rely on: NumPy itself refuses."""
    written = io.BytesIO()
    np.save(written, EVIL, allow_pickle=True)
    with Refused(ValueError):
        np.load(io.BytesIO(written.getvalue()), allow_pickle=False)
