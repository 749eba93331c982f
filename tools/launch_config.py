"""Writes what starts a training on several machines: a Kubeflow TFJob, or a script for Slurm.

    python -m lingvo_lite.tools.launch_config kubeflow --model=mt.WmtEnDe --workers=4 \
        --gpus_per_worker=8 --image=registry.example.org/lingvo_lite:1 --claim=shared:/shared \
        --data_dir=/shared/data --logdir=/shared/runs/wmt > tfjob.yaml
    python -m lingvo_lite.tools.launch_config slurm --model=mt.WmtEnDe --workers=4 \
        --gpus_per_worker=8 --activate=/shared/venv/bin/activate --partition=gpu --time=2-00:00:00 \
        --data_dir=/shared/data --logdir=/shared/runs/wmt > wmt.sbatch

Further flags of the trainer come behind `--`. See docs/distributed.md for what both rely on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Optional

from lingvo_lite import flag_types, registry
from lingvo_lite.runs import atomic

# What YAML takes as it stands for a string; anything else is quoted as in JSON, which YAML reads.
_PLAIN = re.compile(r'[A-Za-z][A-Za-z0-9./-]*')
_NOT_STRINGS = {'y', 'n', 'yes', 'no', 'on', 'off', 'true', 'false', 'null'}
# Seconds between being asked to stop and being killed: for the step at work and a checkpoint.
_SECONDS_TO_SAVE = 300
# Exit codes of workers that go on when all are started again; see docs/jobs.md.
_STARTED_AGAIN = (137, 138, 142, 143)


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"launch_config: {message} ('{self.prog} --help' shows all flags.)\n")


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """Writes the file; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    flags = Parser().parse_args(arguments)
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # the registry imports TensorFlow
    try:
        registry.Get(flags.model)
        text = flags.write(flags)
        written_by = shlex.join(['python', '-m', 'lingvo_lite.tools.launch_config', *arguments])
        lines = text.split('\n')
        # Behind the #! that Slurm wants in the first line.
        lines.insert(1 if text.startswith('#!') else 0, f'# {written_by}')
        if flags.out:
            atomic.Write(flags.out, '\n'.join(lines))
        else:
            sys.stdout.write('\n'.join(lines))
    except (OSError, ValueError) as error:
        print(f'launch_config: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    return 0


def Parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = _Parser(
        prog='launch_config',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kinds = parser.add_subparsers(
        dest='kind', metavar='KIND', required=True, parser_class=_Parser, title='KIND'
    )
    kubeflow = kinds.add_parser('kubeflow', help='a TFJob manifest', allow_abbrev=False)
    kubeflow.set_defaults(write=TfJob)
    slurm = kinds.add_parser('slurm', help='a script for sbatch', allow_abbrev=False)
    slurm.set_defaults(write=Sbatch)
    for kind in (kubeflow, slurm):
        kind.add_argument('--model', metavar='NAME', required=True, help='experiment')
        kind.add_argument('--logdir', metavar='RUN', required=True, help='seen by all workers')
        kind.add_argument('--data_dir', metavar='DIR', help='data folder, seen by all workers')
        kind.add_argument(
            '--workers',
            metavar='N',
            type=flag_types.Count,
            required=True,
            help='processes that train',
        )
        kind.add_argument(
            '--gpus_per_worker',
            metavar='N',
            type=flag_types.Natural,
            default=0,
            help='default: 0, none',
        )
        kind.add_argument(
            '--cpus_per_worker', metavar='N', type=flag_types.Count, default=8, help='default: 8'
        )
        kind.add_argument(
            '--memory_gb',
            metavar='N',
            type=flag_types.Count,
            help="of a worker; default: the cluster's",
        )
        kind.add_argument('--name', metavar='NAME', help='of the job; default: from the model')
        kind.add_argument(
            '--max_restarts',
            metavar='N',
            type=flag_types.Natural,
            default=100,
            help='how often the cluster may start it again; default: 100',
        )
        kind.add_argument('--out', metavar='FILE', help='where to write; default: stdout')
    kubeflow.add_argument(
        '--image', metavar='IMAGE', required=True, help='container with lingvo_lite installed'
    )
    kubeflow.add_argument(
        '--claim',
        metavar='NAME:PATH',
        dest='claims',
        type=_Claim,
        action='append',
        required=True,
        help='PersistentVolumeClaim and where it is mounted; may be repeated',
    )
    slurm.add_argument('--partition', metavar='NAME', help="default: the cluster's")
    slurm.add_argument('--time', metavar='TIME', type=_Time, help='limit, e.g. 2-00:00:00')
    slurm.add_argument('--activate', metavar='FILE', help='read first: VENV/bin/activate')
    for kind in (kubeflow, slurm):
        kind.add_argument(
            'trainer_flags', nargs='*', metavar='FLAG', help='behind `--`: for the trainer'
        )
    return parser


def TfJob(flags: argparse.Namespace) -> str:
    """The manifest of a TFJob (kubeflow.org/v1).

    Raises:
      ValueError: if the workers would not share the log directory, or a name cannot be used.
    """
    for flag, path in (('--logdir', flags.logdir), ('--data_dir', flags.data_dir)):
        if path and not any(_IsBelow(path, mount) for _, mount in flags.claims):
            mounted = ', '.join(mount for _, mount in flags.claims)
            raise ValueError(
                f'{flag}={path} is in no claim, so workers would not share it. Mounted: {mounted}. '
                'Add --claim=NAME:PATH.'
            )
    name = flags.name or re.sub('[^a-z0-9]+', '-', flags.model.lower()).strip('-')[:40]
    if not re.fullmatch('[a-z]([a-z0-9-]{,38}[a-z0-9])?', name):
        raise ValueError(
            f'--name={name}: Kubernetes wants at most 40 lower-case letters, digits and hyphens, '
            'a letter first.'
        )
    resources: dict[str, Any] = {'cpu': flags.cpus_per_worker}
    if flags.memory_gb:
        resources['memory'] = f'{flags.memory_gb}Gi'
    if flags.gpus_per_worker:
        resources['nvidia.com/gpu'] = flags.gpus_per_worker
    container = {
        'name': 'tensorflow',  # by which the operator knows the one that gets TF_CONFIG
        'image': flags.image,
        'command': TrainerCommand(flags),
        'resources': {'limits': resources},
        'volumeMounts': [{'name': claim, 'mountPath': path} for claim, path in flags.claims],
    }
    pod = {
        'terminationGracePeriodSeconds': _SECONDS_TO_SAVE,
        'containers': [container],
        'volumes': [
            {'name': claim, 'persistentVolumeClaim': {'claimName': claim}}
            for claim in dict(flags.claims)
        ],
    }
    worker = {
        'replicas': flags.workers,
        # Starts again what ends with 128 or more: killed, pre-empted, another worker gone.
        'restartPolicy': 'ExitCode',
        'template': {'spec': pod},
    }
    job = {
        'apiVersion': 'kubeflow.org/v1',
        'kind': 'TFJob',
        'metadata': {'name': name},
        'spec': {
            'runPolicy': {'backoffLimit': flags.max_restarts, 'cleanPodPolicy': 'Running'},
            'tfReplicaSpecs': {'Worker': worker},
        },
    }
    return '\n'.join(Yaml(job)) + '\n'


def Sbatch(flags: argparse.Namespace) -> str:
    """The script for sbatch: a worker a node.

    It reads the exit code of each worker from what srun says on stderr, because srun returns the
    highest only. Against a shell around the trainer that notes its code: where processes are
    tracked by cgroups, Slurm's signals reach that shell alone, elsewhere both, and a trainer must
    get SIGTERM once. Against a file as a mark: the disk may be full, the log directory removed.

    Raises:
      ValueError: if the log directory is not the same from everywhere.
    """
    for flag, path in (('--logdir', flags.logdir), ('--data_dir', flags.data_dir)):
        if path and not path.startswith('/'):
            raise ValueError(f'{flag}={path} must begin with /: jobs start in any folder.')
    name = flags.name or flags.model
    if not re.fullmatch(r'[\w.-]+', name):
        raise ValueError(f'--name={name}: letters, digits, dots and hyphens are expected.')
    options = {
        'job-name': name,
        'nodes': flags.workers,
        'ntasks-per-node': 1,
        'cpus-per-task': flags.cpus_per_worker,
        'gpus-per-node': flags.gpus_per_worker or None,
        'mem': f'{flags.memory_gb}G' if flags.memory_gb else None,
        'partition': flags.partition,
        'time': flags.time,
        # To the workers, this many seconds before the end of --time.
        'signal': f'TERM@{_SECONDS_TO_SAVE}',
        'requeue': '',
        'open-mode': 'append',
    }
    lines = ['#!/bin/bash']
    for key, value in options.items():
        if value is not None:
            lines.append(f'#SBATCH --{key}={value}' if value != '' else f'#SBATCH --{key}')
    lines.append('')
    if flags.activate:
        lines += [f'. {shlex.quote(flags.activate)} || exit 1', '']
    words = [shlex.quote(word) for word in TrainerCommand(flags)]
    # srun does not take --cpus-per-task from sbatch (since Slurm 22.05).
    start = 'srun --label --cpus-per-task=$SLURM_CPUS_PER_TASK'
    waiting = f'--kill-on-bad-exit=0 --wait={_SECONDS_TO_SAVE}'
    # 130, Ctrl-C, is no failure either, and no reason to start again.
    no_failures = '|'.join(str(code) for code in (130, *_STARTED_AGAIN))
    lines += [
        '# srun returns the highest code. When a worker fails, the others end with 138, which',
        '# hides its 1; but on stderr srun names them all.',
        'exec 3>&1',
        'failed=$(',
        '  # When a worker ends, the others have --wait seconds to save.',
        ' \\\n    '.join([f'  {start} {waiting}', *words, '2>&1 >&3 |']),
        '    tee -a /dev/stderr |',
        "    grep '^srun: error: .*: Exited with exit code [0-9]*$' |",
        f"    grep -Ev ' ({no_failures})$'",
        '  exit "${PIPESTATUS[0]}"',
        ')',
        'code=$?',
        '[ -z "$failed" ] || code=${failed##* }',
        '',
        '# 143: time is up, everything is saved; 137, 138: a worker is gone; 142: did not start.',
        '# The same job goes on.',
        f'case $code in {" | ".join(map(str, _STARTED_AGAIN))})',
        f'  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {flags.max_restarts} ]; then',
        '    scontrol requeue "$SLURM_JOB_ID"',
        '  fi',
        'esac',
        'exit $code',
        '',
    ]
    return '\n'.join(lines)


def TrainerCommand(flags: argparse.Namespace) -> list[str]:
    """What each worker runs."""
    command = ['trainer', f'--model={flags.model}', f'--logdir={flags.logdir}']
    if flags.data_dir:
        command.append(f'--data_dir={flags.data_dir}')
    if flags.workers > 1:
        command.append('--strategy=multi_worker')
    return [*command, *flags.trainer_flags]


def Yaml(value: Any, indent: str = '') -> list[str]:
    """The lines of a mapping or a list of what JSON knows; nothing in it is empty."""
    lines: list[str] = []
    pairs = value.items() if isinstance(value, Mapping) else ((None, each) for each in value)
    for key, each in pairs:
        head = f'{indent}-' if key is None else f'{indent}{_Scalar(key)}:'
        if not isinstance(each, (Mapping, list)):
            lines.append(f'{head} {_Scalar(each)}')
            continue
        below = Yaml(each, f'{indent}  ')
        if key is None:  # the first line of an item stands behind its hyphen
            below[0] = f'{head} {below[0].lstrip()}'
            lines += below
        else:
            lines += [head, *below]
    return lines


def _Scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_STRINGS:
        return value
    return json.dumps(value)


def _IsBelow(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip('/') + '/')


def _Claim(text: str) -> tuple[str, str]:
    name, _, path = text.partition(':')
    if not re.fullmatch('[a-z0-9]([a-z0-9-]{,61}[a-z0-9])?', name) or not path.startswith('/'):
        raise ValueError
    return name, path


def _Time(text: str) -> str:
    if not re.fullmatch(r'(\d+-)?\d+(:\d\d){,2}', text):
        raise ValueError
    return text


_Claim.__name__, _Time.__name__ = 'NAME:/PATH', 'days-hours:minutes:seconds'


if __name__ == '__main__':
    sys.exit(Main())
