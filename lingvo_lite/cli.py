"""The commands: trainer, evaler, decoder, lingvo_lite.

    trainer --model=mt.NumbersEnDe --logdir=RUN
    evaler  --model=mt.NumbersEnDe --logdir=RUN --dataset=Dev
    decoder --model=mt.NumbersEnDe --logdir=RUN --dataset=Test
    lingvo_lite list | show MODEL | diff A B | check MODEL | inspect-input MODEL
    lingvo_lite tune-batch MODEL | replay RUN STEP

`python -m lingvo_lite.cli COMMAND ...` does the same where the scripts are not on the path.

Exit codes: 0 the work is done; 1 it failed; 2 a mistake in the configuration, told in one line;
130 stopped by Ctrl-C and 143 by SIGTERM, the trainer with everything saved; 138 the trainer hung,
or another worker is gone: start it again.

LINGVO_LITE_TRACEBACK=1 shows the stack trace of every error.

TensorFlow is imported behind the reading of the flags: --help and a wrong flag answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Optional

from lingvo_lite import hyperparams

CONFIG_ERROR = 2


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors, near names, and no abbreviated flags."""

    def __init__(self, **kwargs: Any):
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._Unknown(unknown[0]))
        return parsed

    def error(self, message: str) -> NoReturn:
        raise hyperparams.ConfigError(f"{message} ('{self.prog} --help' shows all flags.)")

    def _Unknown(self, given: str) -> str:
        name = given.split('=')[0]
        if not name.startswith('-'):
            return f'What is {given!r} for? Values belong to flags: --flag=value.'
        known = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(name, known, n=2)
        hint = f' Did you mean {" or ".join(near)}?' if near else ''
        return f'No flag {name}.{hint}'


def Trainer(argv: Optional[Sequence[str]] = None) -> int:
    """Trains a model in a log directory, from where it stands to its end."""
    return _Guarded('trainer', _RunTrainer, argv)


def Evaler(argv: Optional[Sequence[str]] = None) -> int:
    """Scores the checkpoints of a run by their loss on a dataset."""
    return _Guarded('evaler', _RunEvaler, argv)


def Decoder(argv: Optional[Sequence[str]] = None) -> int:
    """Decodes a dataset, or one's own text, with the checkpoints of a run."""
    return _Guarded('decoder', _RunDecoder, argv)


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """lingvo_lite: looks at experiments and runs; also starts the jobs."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ['trainer']:
        return Trainer(arguments[1:])
    if arguments[:1] == ['evaler']:
        return Evaler(arguments[1:])
    if arguments[:1] == ['decoder']:
        return Decoder(arguments[1:])
    return _Guarded('lingvo_lite', _RunMain, arguments)


def _Guarded(command: str, run: Callable[[list[str]], int], argv: Optional[Sequence[str]]) -> int:
    """Runs a command; a mistake in the configuration becomes one line and exit code 2."""
    _QuietTensorFlow()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return run(arguments)
    except hyperparams.ConfigError as error:
        if os.environ.get('LINGVO_LITE_TRACEBACK'):
            raise
        line = ' '.join(str(error).split())
        print(f'{command}: {line}', file=sys.stderr)
        return CONFIG_ERROR
    except BrokenPipeError:  # `lingvo_lite show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not _SaysAll(error):
            raise
        print(f'{command}: {error}', file=sys.stderr)
        return getattr(error, 'exit_code', 1)


def _SaysAll(error: Exception) -> bool:
    """Whether the message is what a user needs, and a stack trace would only hide it."""
    if os.environ.get('LINGVO_LITE_TRACEBACK') or 'tensorflow' not in sys.modules:
        return False
    from lingvo_lite.jobs.faults import errors

    return isinstance(error, errors.EXPECTED)


def _QuietTensorFlow() -> None:
    """TensorFlow's start-up notes on stderr would bury our lines; errors arrive as exceptions."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')


def _JobParser(job: str, description: str) -> _Parser:
    parser = _Parser(prog=job, description=description)
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
    _AddDeviceFlags(parser)
    parser.add_argument('--list', action='store_true', help='list all experiments and exit')
    return parser


def _AddDeviceFlags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--strategy',
        choices=('auto', 'one', 'mirrored', 'multi_worker', 'tpu'),
        default='auto',
        help='auto: multi_worker if TF_CONFIG names a cluster, mirrored on several GPUs, else one',
    )
    parser.add_argument(
        '--replicas',
        metavar='N',
        type=_Natural,
        default=0,
        help='devices of mirrored to use; 0: all (logical CPUs are made where there is no GPU)',
    )
    parser.add_argument(
        '--threads',
        metavar='N',
        type=_Natural,
        default=0,
        help='threads TensorFlow computes with; 0: as many as it likes',
    )


def _AddScoringFlags(parser: _Parser) -> None:
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
        type=_Natural,
        default=0,
        help='use the average of the last K checkpoints',
    )
    parser.add_argument(
        '--average_best',
        metavar='K',
        type=_Natural,
        default=0,
        help='use the average of the K checkpoints that task.eval.best_metric finds best',
    )
    parser.add_argument(
        '--folder',
        metavar='NAME',
        help='folder in RUN for the results, e.g. to decode again with other settings',
    )


def _Natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


_Natural.__name__ = 'int >= 0'


def _Positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise ValueError
    return value


_Positive.__name__ = 'number > 0'


def _RunTrainer(argv: list[str]) -> int:
    parser = _JobParser('trainer', 'Trains a model in a log directory.')
    parser.add_argument(
        '--eval',
        metavar='NAMES',
        default='',
        help='datasets to evaluate and decode in this process at each save, e.g. Dev,Test',
    )
    parser.add_argument(
        '--profile_steps',
        metavar='A,B',
        type=_StepRange,
        help='profile from step A to step B into TensorBoard',
    )
    flags = parser.parse_args(argv)
    if flags.list:
        return _List([])
    _Need(flags, 'model', 'logdir')
    from lingvo_lite.jobs import trainer

    return trainer.Run(
        flags.model,
        flags.logdir,
        source=_Source(flags),
        device=_Device(flags),
        eval_datasets=[name for name in flags.eval.split(',') if name],
        profile_steps=flags.profile_steps,
    )


def _StepRange(text: str) -> tuple[int, int]:
    first, _, last = text.partition(',')
    if not 0 < int(first) <= int(last):
        raise ValueError
    return int(first), int(last)


_StepRange.__name__ = 'A,B with 0 < A <= B'


def _RunEvaler(argv: list[str]) -> int:
    parser = _JobParser('evaler', "Scores a run's checkpoints by their loss on a dataset.")
    _AddScoringFlags(parser)
    flags = parser.parse_args(argv)
    if flags.list:
        return _List([])
    _Need(flags, 'model', 'logdir', 'dataset')
    from lingvo_lite.jobs import evaler

    return evaler.Run(
        flags.model,
        flags.logdir,
        flags.dataset,
        source=_Source(flags),
        device=_Device(flags),
        choice=_Choice(flags),
        folder=flags.folder,
    )


def _RunDecoder(argv: list[str]) -> int:
    parser = _JobParser(
        'decoder', "Decodes a dataset, or one's own text, with a run's checkpoints."
    )
    _AddScoringFlags(parser)
    parser.add_argument(
        '--input',
        metavar='FILE',
        help="instead: one's own text, a sentence a line, or - for stdin; for speech an audio "
        'file, a list of them, a folder, or a pattern in quotes',
    )
    parser.add_argument(
        '--output', metavar='FILE', default='-', help='where --input goes; stdout unless given'
    )
    flags = parser.parse_args(argv)
    if flags.list:
        return _List([])
    if flags.input is None:
        _Need(flags, 'model', 'logdir', 'dataset')
        if flags.output != '-':
            raise hyperparams.ConfigError('--output goes with --input; there is none.')
        from lingvo_lite.jobs import decoder

        return decoder.Run(
            flags.model,
            flags.logdir,
            flags.dataset,
            source=_Source(flags),
            device=_Device(flags),
            choice=_Choice(flags),
            folder=flags.folder,
        )
    _Need(flags, 'model', 'logdir')
    from lingvo_lite.jobs.scoring import own_input

    return own_input.Run(
        flags.model,
        flags.logdir,
        flags.dataset,
        source=_Source(flags),
        device=_Device(flags),
        choice=_Choice(flags),
        read_from=flags.input,
        write_to=flags.output,
    )


def _Need(flags: argparse.Namespace, *names: str) -> None:
    missing = [f'--{name}' for name in names if not getattr(flags, name)]
    if missing:
        hint = " 'lingvo_lite list' shows the experiments." if '--model' in missing else ''
        raise hyperparams.ConfigError(f'{" and ".join(missing)} must be given.{hint}')


def _Source(flags: argparse.Namespace) -> Any:
    from lingvo_lite.jobs.config import job_params

    return job_params.Source(
        settings=flags.set,
        params_file=flags.params_file,
        imports=flags.imports,
        data_dir=flags.data_dir,
    )


def _Device(flags: argparse.Namespace) -> Any:
    from lingvo_lite.jobs.devices import runtime

    return runtime.Wish(flags.strategy, flags.replicas, flags.threads)


def _Choice(flags: argparse.Namespace) -> Any:
    from lingvo_lite.jobs.scoring import weights

    return weights.Choice(
        checkpoints=[path for path in (flags.checkpoint or '').split(',') if path],
        average_last=flags.average_last,
        average_best=flags.average_best,
        once=flags.once,
    )


def _RunMain(argv: list[str]) -> int:
    parser = _Parser(prog='lingvo_lite', description='Looks at experiments without training them.')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', parser_class=_Parser)
    listing = commands.add_parser('list', help='the experiments, of one family or all')
    listing.add_argument('family', nargs='?')
    show = commands.add_parser('show', help="an experiment's params")
    show.add_argument('model', metavar='MODEL')
    show.add_argument('--why', metavar='KEY', help='value, meaning and origin of one param')
    diff = commands.add_parser(
        'diff', help='how two models, params files or log directories differ'
    )
    diff.add_argument('a', metavar='A')
    diff.add_argument('b', metavar='B')
    check = commands.add_parser('check', help='builds an experiment without its variables')
    check.add_argument('model', metavar='MODEL')
    inspect = commands.add_parser('inspect-input', help='three batches of a dataset, as text')
    inspect.add_argument('model', metavar='MODEL')
    tune = commands.add_parser(
        'tune-batch', help='the largest batch of each bucket that fits into memory'
    )
    tune.add_argument('model', metavar='MODEL')
    tune.add_argument(
        '--limit',
        metavar='GB',
        type=_Positive,
        default=0.0,
        help='memory that may be used, in 10^9 bytes: of each GPU, or of the process on a CPU; '
        'default: all of a GPU, 0.8 of what is free on a CPU',
    )
    tune.add_argument(
        '--buckets', metavar='N', type=_Natural, default=6, help='how many buckets to try'
    )
    replay = commands.add_parser(
        'replay', help='a step of a run once more, with numbers of every layer'
    )
    replay.add_argument('run', metavar='RUN')
    replay.add_argument(
        'step', metavar='STEP', type=_Natural, help='as metrics.jsonl counts, from 1'
    )
    replay.add_argument(
        '--pdb',
        action='store_true',
        help='stop in the debugger in the first layer with an output that is not finite, or at '
        'the end of the step',
    )
    for each in (listing, show, diff, check, inspect, tune, replay):
        each.add_argument('--import', dest='imports', action='append', default=[])
    for each in (show, check, inspect):
        each.add_argument('--dataset', metavar='NAME', default='Train')
    for each in (show, check, inspect, tune):
        each.add_argument('--set', metavar='KEY=VALUE', action='append', default=[])
        each.add_argument('--params_file', metavar='FILE')
    for each in (show, check, inspect, tune, replay):
        each.add_argument('--data_dir', metavar='DIR')
    for each in (tune, replay):
        _AddDeviceFlags(each)
    for job in ('trainer', 'evaler', 'decoder'):
        commands.add_parser(job, help=f'the {job} job (see {job} --help)')
    flags = parser.parse_args(argv)
    if flags.command is None:
        parser.print_help()
        return CONFIG_ERROR
    from lingvo_lite.jobs.config import describe, job_params

    job_params.Import(flags.imports)
    if flags.command == 'list':
        return _List([flags.family] if flags.family else [])
    if flags.command == 'diff':
        print(describe.Diff(flags.a, flags.b), end='')
        return 0
    if flags.command == 'replay':
        from lingvo_lite.jobs.faults import replay

        own = job_params.Source(imports=flags.imports, data_dir=flags.data_dir)
        return replay.Run(flags.run, flags.step, own, _Device(flags), sys.stdout, flags.pdb)
    source = _Source(flags)
    if flags.command == 'tune-batch':
        from lingvo_lite.jobs.devices import tune_batch

        return tune_batch.Run(
            flags.model, source, _Device(flags), sys.stdout, flags.limit, flags.buckets
        )
    if flags.command == 'show':
        print(describe.Show(flags.model, flags.dataset, source, flags.why), end='')
    elif flags.command == 'check':
        print(describe.Check(flags.model, flags.dataset, source), end='')
    else:
        describe.InspectInput(flags.model, flags.dataset, source, sys.stdout)
    return 0


def _List(families: list[str]) -> int:
    from lingvo_lite import registry

    for family in families:
        if family not in registry.Families():
            known = ', '.join(registry.Families())
            raise hyperparams.ConfigError(f'No family {family!r}. Families: {known}.')
    for name in registry.List(*families):
        print(name)
    return 0


if __name__ == '__main__':
    sys.exit(Main())
