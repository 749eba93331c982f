"""README and docs are true: commands are read by the real parsers, Python is executed."""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import shlex
import sys
import types
from typing import NamedTuple

import pytest

from lingvo_lite import cli, registry
from lingvo_lite.inputs import data_files
from lingvo_lite.jobs import trainer
from lingvo_lite.jobs.config import describe, job_params
from lingvo_lite.jobs.scoring import own_input, scorer
from lingvo_lite.testing import fake_data

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [
    'README.md',
    'CONTRIBUTING.md',
    'BUILD_NOTES.md',
    *sorted(str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob('tasks/*/README.md')),
    *sorted(f'docs/{p.name}' for p in REPOSITORY.glob('docs/*.md')),
]
# Programs of others, whose flags are not ours to check.
FOREIGN = {'echo', 'tensorboard', 'sacrebleu', 'pip', 'pytest', 'ruff', 'mypy'}
JOBS = {'trainer': trainer, 'evaler': scorer, 'decoder': scorer}


class Block(NamedTuple):
    """A fenced block: where it stands, its language, its text."""

    document: str
    line: int
    language: str
    text: str


def Blocks(document):
    """The fenced blocks of a document."""
    text = (REPOSITORY / document).read_text(encoding='utf-8')
    found = re.finditer(r'^```(\w*)\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    return [Block(document, text[: m.start()].count('\n') + 1, m[1], m[2]) for m in found]


def Commands(document):
    """(line number, words) of each command in blocks without a language; pipes taken apart."""
    found = []
    for block in Blocks(document):
        if block.language:
            continue
        number = block.line
        for line in block.text.replace('\\\n', ' ').splitlines():
            number += 1
            words = shlex.split(line, comments=True)
            words = words[: words.index('>')] if '>' in words else words
            while words:
                end = words.index('|') if '|' in words else len(words)
                found.append((number, words[:end]))
                words = words[end + 1 :]
    return found


ALL = [(name, *command) for name in DOCUMENTS for command in Commands(name)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the modules that the documents write, and a data folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv('LINGVO_LITE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('LINGVO_LITE_DATA', raising=False)
    for name in DOCUMENTS:
        for block in Blocks(name):
            path = re.match(r'# (\w+/\w+\.py)\n', block.text)
            if path and block.language == 'python':
                (tmp_path / path[1]).parent.mkdir(exist_ok=True)
                (tmp_path / path[1]).write_text(block.text)
    importlib.invalidate_caches()
    yield tmp_path
    data_files.SetDataDir(None)
    for name in [n for n in sys.modules if n.split('.')[0] == 'my_package']:
        del sys.modules[name]
    for name in [n for n in registry._experiments if n.startswith('my_package.')]:
        del registry._experiments[name]


def CheckJob(job, words, monkeypatch):
    """Reads a job's flags, and builds the params that it would work with; runs nothing."""
    seen = []

    def Run(model, logdir, dataset=None, **kwargs):
        del logdir
        cls = job_params.Experiment(model, kwargs['source'])
        params = job_params.ForDataset(cls, dataset or 'Train', kwargs['source'])
        job_params.DryBuild(params)
        for name in kwargs.get('eval_datasets', ()):
            cls.Dataset(name)
        seen.append(kwargs['make_pass'].title if 'make_pass' in kwargs else job)
        return 0

    for module in (JOBS[job], own_input):
        monkeypatch.setattr(module, 'Run', Run)
    assert cli.Main([job, *words]) == 0
    assert seen == [job]


@pytest.mark.parametrize(('document', 'line', 'words'), ALL, ids=lambda value: str(value)[:60])
def test_command(document, line, words, folder, monkeypatch, capsys):
    while re.fullmatch(r'[A-Z_]+=.*', words[0]):
        words = words[1:]
    program, rest = words[0], words[1:]
    where = f'{document}:{line}: {shlex.join(words)}'
    if program in JOBS:
        CheckJob(program, rest, monkeypatch)
    elif program == 'lingvo_lite':
        monkeypatch.setattr(describe, 'InspectInput', lambda model, *_: registry.Get(model))
        # These read a run, or data; what they do with the flags is tested elsewhere.
        monkeypatch.setattr('lingvo_lite.jobs.faults.replay.Run', lambda *_: 0)
        monkeypatch.setattr(
            'lingvo_lite.jobs.devices.tune_batch.Run',
            lambda model, *_: 0 if registry.Get(model) else 1,
        )
        assert cli.Main(rest) == 0, f'{where}: {capsys.readouterr().err}'
    elif program == 'bash':
        assert os.access(REPOSITORY / rest[0], os.X_OK), where
    elif program == 'python' and rest[0] == '-m':
        importlib.import_module(rest[1]).Parser().parse_args(rest[2:])
    else:
        assert program in FOREIGN, f'{where}: what is {program}?'


@pytest.mark.parametrize('document', DOCUMENTS)
def test_python(document, folder):
    """The Python of a document runs from top to bottom."""
    module = types.ModuleType('my_package')
    for block in Blocks(document):
        if block.language != 'python':
            continue
        path = re.match(r'# (\w+)/(\w+)\.py\n', block.text)
        if path:
            module.__dict__.update(vars(importlib.import_module(f'{path[1]}.{path[2]}')))
            continue
        # Errors then name line and document.
        code = compile('\n' * block.line + block.text, document, 'exec')
        exec(code, module.__dict__)


def test_nothing_is_left_out():
    """The checks see what there is to see."""
    programs = {words[0] for _, _, words in ALL}
    assert {'trainer', 'evaler', 'decoder', 'lingvo_lite', 'bash', 'python'} <= programs
    languages = {block.language for name in DOCUMENTS for block in Blocks(name)}
    assert languages == {'', 'python', 'text', 'mermaid'}
    for name in DOCUMENTS:
        fences = (REPOSITORY / name).read_text(encoding='utf-8').count('```')
        assert fences == 2 * len(Blocks(name)), name


@pytest.mark.parametrize('document', DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (REPOSITORY / document).read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)#]+)\)', text):
        assert (REPOSITORY / document).parent.joinpath(target).exists(), target


def Paths(text):
    """Paths from the repository's root, `in/such/marks.py` or as words of a command."""
    found = re.findall(r'[`\s]((?:lingvo_lite|tasks|tests|tools|docs|\.ci)/[\w./<>*-]*)', text)
    return [path.rstrip('.') for path in found]


@pytest.mark.parametrize('document', DOCUMENTS)
def test_paths_are_there(document):
    text = (REPOSITORY / document).read_text(encoding='utf-8')
    for path in Paths(text):
        assert list(REPOSITORY.glob(re.sub(r'<\w+>', '*', path))), path


def test_a_step_of_the_map_names_what_its_files_hold():
    """Where something moves to another file, the way of a batch is no longer true."""
    text = (REPOSITORY / 'docs/architecture.md').read_text(encoding='utf-8')
    steps = text[text.index('## From a file') :]
    rows = re.findall(r'^\| \d+ \| `.*', steps, re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        files = [REPOSITORY / path for path in Paths(row) if path.endswith('.py')]
        sources = ''.join(file.read_text(encoding='utf-8') for file in files)
        for name in re.findall(r'`(?:\w+\.)?(\w+)`', row):
            assert re.search(rf'^ *(class|def) {name}\b', sources, re.MULTILINE), f'{name}: {row}'


def test_own_experiment_has_at_most_40_lines():
    (block,) = (b for b in Blocks('README.md') if b.language == 'python')
    assert block.text.count('\n') <= 41  # the first one is the name of the file


@pytest.mark.slow
def test_own_experiment_trains(folder):
    """The README's experiment, small, for two steps, evaluated and decoded."""
    pairs = fake_data.SentencePairs(200)
    (folder / 'DATA' / 'mine').mkdir(parents=True)
    for name, part in (('train', pairs[:180]), ('dev', pairs[180:])):
        for side, language in enumerate(('en', 'de')):
            lines = [pair[side] for pair in part]
            fake_data.WriteLines(folder / f'DATA/mine/{name}.{language}', lines)
    (command,) = (words for _, _, words in ALL if '--model=my_package.mine.Mine' in words)
    small = {'model_dim': 16, 'vocab_size': 64, 'train.lr_schedule.model_dim': 16}
    for stack in ('encoder', 'decoder'):
        small.update({f'{stack}.num_layers': 1, f'{stack}.hidden_dim': 32})
    flags = [f'--set=task.{key}={value}' for key, value in small.items()]
    flags += ['--set=task.train.max_steps=2', '--set=task.search.max_steps=6']
    flags += [f'--set={each}input.tokenizer.vocab_size=64' for each in ('', 'Dev.')]
    assert command[1] == 'trainer'
    assert cli.Trainer([*command[2:], *flags]) == 0
    assert (folder / 'RUN/train/FINISHED').exists()
    assert (folder / 'RUN/best/score.json').exists()
    assert len((folder / 'RUN/decode_dev/decoded-00000002.jsonl').read_text().splitlines()) == 20
