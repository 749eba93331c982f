"""What starts a training on several machines, and that the document shows what is produced."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from lingvo_lite.tools import launch_config

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / 'docs' / 'distributed.md'
KUBEFLOW = (
    *('kubeflow', '--model=mt.WmtEnDe', '--workers=3', '--image=here:5000/x:1'),
    *('--claim=runs:/runs', '--logdir=/runs/a'),
)
SLURM = ('slurm', '--model=mt.WmtEnDe', '--workers=3', '--logdir=/runs/a')


@pytest.fixture
def make(capsys):
    """make(*arguments): (exit code, stdout, stderr)."""

    def Make(*arguments):
        capsys.readouterr()
        try:
            code = launch_config.Main(arguments)
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return Make


def read_yaml(text):
    """Reads the part of YAML that is written: block mappings and lists, plain or JSON scalars.

    If PyYAML happens to be installed, it must read the same.
    """
    lines = [
        (len(line) - len(line.lstrip()), line.strip())
        for line in text.splitlines()
        if not line.startswith('#')
    ]

    def Scalar(word):
        plain = re.fullmatch(r'[A-Za-z][A-Za-z0-9./-]*', word)
        return word if plain else json.loads(word)

    def Block(indent):
        found = None
        while lines and lines[0][0] == indent:
            _, line = lines[0]
            if line.startswith('- '):
                found = [] if found is None else found
                lines[0] = (indent + 2, line[2:])
                if re.match(r'[^"]\S*:( |$)', line[2:]):
                    found.append(Block(indent + 2))
                else:
                    found.append(Scalar(lines.pop(0)[1]))
                continue
            found = {} if found is None else found
            key, _, value = lines.pop(0)[1].partition(':')
            assert key not in found
            found[key] = Scalar(value.strip()) if value else Block(lines[0][0])
        return found

    found = Block(0)
    assert not lines
    try:
        import yaml
    except ImportError:
        return found
    assert yaml.safe_load(text) == found
    return found


def trainer_flags(words):
    """{flag: value} behind the trainer's name."""
    words = words[words.index('trainer') + 1 :]
    return dict(word.split('=', 1) for word in words)


def test_the_document_shows_what_is_produced(make):
    text = DOCUMENT.read_text(encoding='utf-8')
    blocks = re.findall(r'^```text\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    seen = []
    for block in blocks:
        command = re.search(r'^# (python -m lingvo_lite.tools.launch_config .*)$', block, re.M)
        if command is None:
            continue
        words = shlex.split(command[1])[3:]
        assert f'\n{command[1]} > ' in text  # the command that the reader is told to run
        assert make(*words) == (0, block, '')
        seen.append(words[0])
    assert seen == ['kubeflow', 'slurm']


def test_a_tfjob(make):
    code, text, _ = make(
        *KUBEFLOW,
        *('--claim=data:/data', '--claim=runs:/models', '--data_dir=/data', '--memory_gb=64'),
        *('--gpus_per_worker=2', '--', '--set=task.train.max_steps=5', '--set=task.x="a: b"'),
    )
    assert code == 0
    job = read_yaml(text)
    assert (job['apiVersion'], job['kind']) == ('kubeflow.org/v1', 'TFJob')
    assert job['metadata'] == {'name': 'mt-wmtende'}
    worker = job['spec']['tfReplicaSpecs']['Worker']
    assert (worker['replicas'], worker['restartPolicy']) == (3, 'ExitCode')
    pod = worker['template']['spec']
    (container,) = pod['containers']
    assert container['name'] == 'tensorflow' and container['image'] == 'here:5000/x:1'
    assert container['resources']['limits'] == {'cpu': 8, 'memory': '64Gi', 'nvidia.com/gpu': 2}
    assert container['volumeMounts'] == [
        {'name': 'runs', 'mountPath': '/runs'},
        {'name': 'data', 'mountPath': '/data'},
        {'name': 'runs', 'mountPath': '/models'},
    ]
    assert [v['persistentVolumeClaim']['claimName'] for v in pod['volumes']] == ['runs', 'data']
    assert container['command'] == [
        *('trainer', '--model=mt.WmtEnDe', '--logdir=/runs/a', '--data_dir=/data'),
        *('--strategy=multi_worker', '--set=task.train.max_steps=5', '--set=task.x="a: b"'),
    ]


@pytest.mark.parametrize(
    'value', ['yes', 'No', 'null', '1', '1e3', 'a: b', '- a', '#', '"', 'ä', '']
)
def test_texts_that_yaml_would_take_for_something_else(value):
    assert read_yaml('\n'.join(launch_config.Yaml({'a': [value], 'b': value}))) == {
        'a': [value],
        'b': value,
    }


def test_one_worker_takes_what_it_finds(make):
    for kind in (KUBEFLOW, SLURM):
        _, text, _ = make(*(word.replace('=3', '=1') for word in kind))
        assert '--strategy' not in text and 'trainer' in text


# As Slurm's: labels the output of all tasks, says on stderr how each ended that did not end with 0,
# and returns the highest code, but 128 + the highest signal if there is one.
_SRUN = """#!{python} -S
import json, os, signal, subprocess, sys
words = sys.argv[1:]
with open('{calls}/srun', 'w') as file:
    json.dump(words, file)
command = words[next(n for n, word in enumerate(words) if word[0] != '-') :]
highest = {{False: 0, True: 0}}
for task in range(len(os.environ['CODES'].split())):
    ended = subprocess.run(
        command,
        env={{**os.environ, 'SLURM_PROCID': str(task)}},
        capture_output=True,
        text=True,
    )
    for source, target in ((ended.stdout, sys.stdout), (ended.stderr, sys.stderr)):
        for line in source.splitlines():
            print(f'{{task}}: {{line}}', file=target)
    code = abs(ended.returncode)
    killed = ended.returncode < 0
    how = signal.strsignal(code) if killed else f'Exited with exit code {{code}}'
    if code:
        print(f'srun: error: n{{task}}: task {{task}}: {{how}}', file=sys.stderr)
    highest[killed] = max(highest[killed], code)
sys.exit(128 + highest[True] if highest[True] else highest[False])
"""
_TRAINER = """#!/bin/sh
echo steps
echo 'srun: error: n1: task 1: Exited with exit code 1' >&2
shift $#
set -- $CODES
shift $SLURM_PROCID
case $1 in -*) kill $1 $$; esac
exit $1
"""
_SCONTROL = '#!/bin/sh\nprintf "%s\\n" "$@" > {calls}/scontrol\n'


@pytest.fixture
def cluster(tmp_path):
    """Run(script, codes): (exit code, words of srun, words of scontrol or None).

    Programs of Slurm's names start a trainer for each of the codes, which ends with it, or by
    signal n if it is -n.
    """
    programs = {'srun': _SRUN, 'trainer': _TRAINER, 'scontrol': _SCONTROL}
    (tmp_path / 'bin').mkdir()
    for name, text in programs.items():
        program = tmp_path / 'bin' / name
        # only the templates have places to fill in
        program.write_text(
            text if name == 'trainer' else text.format(python=sys.executable, calls=tmp_path)
        )
        program.chmod(0o755)

    def Run(script, *codes, **environment):
        requeued = tmp_path / 'scontrol'
        requeued.unlink(missing_ok=True)
        log = tmp_path / 'slurm-17.out'
        log.write_text('The start before.\n')
        with open(log, 'a') as file:  # as with --open-mode=append
            code = subprocess.run(
                ['bash', '-c', script],
                env={
                    'PATH': f'{tmp_path}/bin:/usr/bin:/bin',
                    'CODES': ' '.join(map(str, codes)),
                    'SLURM_JOB_ID': '17',
                    'SLURM_CPUS_PER_TASK': '4',
                    **environment,
                },
                stdout=file,
                stderr=file,
            ).returncode
        lines = log.read_text().splitlines()
        assert lines.pop(0) == 'The start before.'
        for task in range(len(codes)):
            said = [line for line in lines if line.startswith(f'{task}: ')]
            assert sorted(line.split()[1] for line in said) == ['srun:', 'steps']
        assert sum(line.startswith('srun: ') for line in lines) == sum(map(bool, codes))
        assert len(lines) == 2 * len(codes) + sum(map(bool, codes))
        return (
            code,
            json.loads((tmp_path / 'srun').read_text()),
            requeued.read_text().splitlines() if requeued.exists() else None,
        )

    return Run


def test_a_script_for_slurm(make, cluster, tmp_path):
    (tmp_path / 'activate here').write_text(f'touch {tmp_path}/activated\n')
    code, script, _ = make(
        *SLURM,
        *('--gpus_per_worker=2', '--partition=fast', '--time=1-12:00:00', '--cpus_per_worker=4'),
        *(f'--activate={tmp_path}/activate here', '--data_dir=/data'),
        *('--', '--set=task.name=a b$c'),
    )
    assert code == 0 and script.startswith('#!/bin/bash\n')
    options = dict(re.findall(r'^#SBATCH --([\w-]+)=?(.*)$', script, re.M))
    wanted = {'nodes': '3', 'ntasks-per-node': '1', 'gpus-per-node': '2', 'cpus-per-task': '4'}
    wanted.update({'partition': 'fast', 'time': '1-12:00:00', 'job-name': 'mt.WmtEnDe'})
    assert wanted.items() <= options.items()
    assert 'TERM@' in options['signal']  # to the workers; with B: it would go to the script alone
    code, srun, scontrol = cluster(script, 0)
    assert (code, scontrol) == (0, None) and (tmp_path / 'activated').exists()
    assert '--cpus-per-task=4' in srun and '--kill-on-bad-exit=0' in srun
    assert trainer_flags(srun) == {
        '--model': 'mt.WmtEnDe',
        '--logdir': '/runs/a',
        '--data_dir': '/data',
        '--strategy': 'multi_worker',
        '--set': 'task.name=a b$c',
    }


@pytest.mark.parametrize(
    ('codes', 'end'),
    [
        ((143, 143), 143),
        ((-9, 138), 137),
        ((138, 138), 138),
        ((-14, -14), 142),
        ((0, 138), 138),
    ],
)
def test_slurm_starts_again_what_was_stopped_or_lost(make, cluster, codes, end):
    _, script, _ = make(*SLURM)
    assert cluster(script, *codes)[::2] == (end, ['requeue', '17'])


@pytest.mark.parametrize(
    ('codes', 'end'),
    [
        ((0, 0), 0),
        ((130, 130), 130),
        ((1, 138), 1),
        ((138, 138, 2), 2),
        ((1, -9), 1),  # srun kills, after --wait, who hangs
        ((1, 143), 1),
        ((-11, 138), 139),
    ],
)
def test_slurm_does_not_start_again_what_would_fail_again(make, cluster, codes, end):
    """Whatever the others end with."""
    _, script, _ = make(*SLURM)
    assert cluster(script, *codes)[::2] == (end, None)


def test_slurm_starts_again_max_restarts_times(make, cluster):
    _, script, _ = make(*SLURM, '--max_restarts=2')
    assert cluster(script, 143, SLURM_RESTART_COUNT='1')[2] == ['requeue', '17']
    assert cluster(script, 143, SLURM_RESTART_COUNT='2')[2] is None


def test_out(make, tmp_path):
    _, text, _ = make(*SLURM)
    assert make(*SLURM, f'--out={tmp_path}/x')[:2] == (0, '')
    written = (tmp_path / 'x').read_text().splitlines()
    assert [line for line in written if '--out' not in line] == [
        line for line in text.splitlines() if 'launch_config' not in line
    ]
    code, _, error = make(*SLURM, f'--out={tmp_path}/none/x')
    assert code == 2 and 'none' in error


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'required: KIND'),
        (('pbs',), "invalid choice: 'pbs'"),
        (('slurm', '--model=mt.WmtEnDe', '--logdir=/a'), 'required: --workers'),
        ((*SLURM, '--workers=0'), "invalid int >= 1 value: '0'"),
        ((*SLURM, '--time=soon'), "invalid days-hours:minutes:seconds value: 'soon'"),
        ((*SLURM, '--logdir=runs'), '--logdir=runs must begin with /'),
        ((*SLURM, '--name=a b'), '--name=a b: letters'),
        ((*SLURM, '--image=x'), 'unrecognized arguments: --image=x'),
        ((*SLURM, '--model=mt.WmtEnDee'), "No experiment 'mt.WmtEnDee'. Nearest: mt.WmtEnDe"),
        ((*KUBEFLOW, '--claim=runs'), "invalid NAME:/PATH value: 'runs'"),
        ((*KUBEFLOW, '--logdir=/runs2/a'), '--logdir=/runs2/a is in no claim'),
        ((*KUBEFLOW, '--data_dir=/data'), '--data_dir=/data is in no claim'),
        ((*KUBEFLOW, '--name=Wmt'), 'Kubernetes wants at most 40 lower-case'),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(make, arguments, message):
    code, out, error = make(*arguments)
    assert (code, out) == (2, '') and message in error and error.count('\n') == 1
