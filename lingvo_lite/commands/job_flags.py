"""The flags that jobs share, and what is made of them."""

from __future__ import annotations

import argparse
from typing import Any

from lingvo_lite import flag_types, hyperparams
from lingvo_lite.commands import parser as parser_lib


def JobParser(job: str, description: str) -> parser_lib.Parser:
    """A parser with the flags of every job.

    Args:
      job: the command.
      description: for --help.
    """
    parser = parser_lib.Parser(prog=job, description=description)
    parser.add_argument(
        '--model', metavar='NAME', help='experiment: mt.NumbersEnDe or package.module.Class'
    )
    parser.add_argument('--logdir', metavar='RUN', help='log directory that all jobs share')
    parser.add_argument(
        '--set',
        metavar='KEY=VALUE',
        action='append',
        default=[],
        help='change a param, e.g. task.train.max_steps=100; may be repeated',
    )
    parser.add_argument(
        '--params_file', metavar='FILE', help="change params by a file of 'key : value' lines"
    )
    parser.add_argument(
        '--import',
        dest='imports',
        metavar='MODULE',
        action='append',
        default=[],
        help='import a module first, for classes that params name; may be repeated',
    )
    parser.add_argument('--data_dir', metavar='DIR', help='data folder; otherwise LINGVO_LITE_DATA')
    AddDevice(parser)
    parser.add_argument('--list', action='store_true', help='list all experiments and exit')
    return parser


def AddDevice(parser: argparse.ArgumentParser) -> None:
    """Adds what to compute on."""
    parser.add_argument(
        '--strategy',
        choices=('auto', 'one', 'mirrored', 'multi_worker', 'tpu'),
        default='auto',
        help='auto: multi_worker if TF_CONFIG names a cluster, mirrored on several GPUs, else one',
    )
    parser.add_argument(
        '--replicas',
        metavar='N',
        type=flag_types.Natural,
        default=0,
        help='devices of mirrored to use; 0: all (logical CPUs are made where there is no GPU)',
    )
    parser.add_argument(
        '--threads',
        metavar='N',
        type=flag_types.Natural,
        default=0,
        help='threads TensorFlow computes with; 0: as many as it likes',
    )


def AddScoring(parser: argparse.ArgumentParser) -> None:
    """Adds what is scored, with which weights, and where the results go."""
    parser.add_argument('--dataset', metavar='NAME', help='dataset of the experiment, e.g. Dev')
    parser.add_argument(
        '--once', action='store_true', help='score the newest checkpoint, or wait for one, and exit'
    )
    parser.add_argument(
        '--checkpoint',
        metavar='PATH',
        help='use this checkpoint, or the newest in this folder, and exit',
    )
    parser.add_argument(
        '--average_last',
        metavar='K',
        type=flag_types.Natural,
        default=0,
        help='use the average of the last K checkpoints',
    )
    parser.add_argument(
        '--average_best',
        metavar='K',
        type=flag_types.Natural,
        default=0,
        help='use the average of the K checkpoints that task.eval.best_metric finds best',
    )
    parser.add_argument(
        '--folder',
        metavar='NAME',
        help='folder in RUN for the results, e.g. to decode again with other settings',
    )


def Need(flags: argparse.Namespace, *names: str) -> None:
    """Raises ConfigError if one of these flags is not given."""
    missing = [f'--{name}' for name in names if not getattr(flags, name)]
    if missing:
        hint = " 'lingvo_lite list' shows the experiments." if '--model' in missing else ''
        raise hyperparams.ConfigError(f'{" and ".join(missing)} must be given.{hint}')


def Source(flags: argparse.Namespace) -> Any:
    """The `job_params.Source` of the flags that change params."""
    from lingvo_lite.jobs.config import job_params

    return job_params.Source(
        settings=flags.set,
        params_file=flags.params_file,
        imports=flags.imports,
        data_dir=flags.data_dir,
    )


def Device(flags: argparse.Namespace) -> Any:
    """The `runtime.Wish` of the flags of `AddDevice`."""
    from lingvo_lite.jobs.devices import runtime

    return runtime.Wish(flags.strategy, flags.replicas, flags.threads)


def Scoring(flags: argparse.Namespace) -> dict[str, Any]:
    """The arguments that `scorer.Run` and `own_input.Run` share, of the flags of `AddScoring`."""
    from lingvo_lite.jobs.scoring import weights

    return {
        'model': flags.model,
        'logdir': flags.logdir,
        'dataset': flags.dataset,
        'source': Source(flags),
        'device': Device(flags),
        'choice': weights.Choice(
            checkpoints=[path for path in (flags.checkpoint or '').split(',') if path],
            average_last=flags.average_last,
            average_best=flags.average_best,
            once=flags.once,
        ),
    }
