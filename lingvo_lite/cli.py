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

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Optional

from lingvo_lite import hyperparams
from lingvo_lite.commands import (
    check,
    decoder,
    diff,
    evaler,
    inspect_input,
    listing,
    parser as parser_lib,
    replay,
    show,
    trainer,
    tune_batch,
)

CONFIG_ERROR = 2
# Of lingvo_lite, in the order of --help: modules with AddTo(subparsers) and Run(flags).
_COMMANDS = (listing, show, diff, check, inspect_input, tune_batch, replay)


def Trainer(argv: Optional[Sequence[str]] = None) -> int:
    """Trains a model in a log directory, from where it stands to its end."""
    return _Guarded('trainer', lambda arguments: _RunJob(trainer, arguments), argv)


def Evaler(argv: Optional[Sequence[str]] = None) -> int:
    """Scores the checkpoints of a run by their loss on a dataset."""
    return _Guarded('evaler', lambda arguments: _RunJob(evaler, arguments), argv)


def Decoder(argv: Optional[Sequence[str]] = None) -> int:
    """Decodes a dataset, or one's own text, with the checkpoints of a run."""
    return _Guarded('decoder', lambda arguments: _RunJob(decoder, arguments), argv)


_JOBS = {'trainer': Trainer, 'evaler': Evaler, 'decoder': Decoder}


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """lingvo_lite: looks at experiments and runs; also starts the jobs."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in _JOBS:
        return _JOBS[arguments[0]](arguments[1:])
    return _Guarded('lingvo_lite', _RunCommand, arguments)


def _RunJob(job: Any, argv: list[str]) -> int:
    flags = job.Parser().parse_args(argv)
    return listing.Print() if flags.list else job.Run(flags)


def _RunCommand(argv: list[str]) -> int:
    parser = parser_lib.Parser(
        prog='lingvo_lite', description='Looks at experiments without training them.'
    )
    subparsers = parser.add_subparsers(
        dest='command', metavar='COMMAND', parser_class=parser_lib.Parser
    )
    for command in _COMMANDS:
        command.AddTo(subparsers).set_defaults(run_command=command.Run)
    for job in _JOBS:
        subparsers.add_parser(job, help=f'the {job} job (see {job} --help)')
    flags = parser.parse_args(argv)
    if flags.command is None:
        parser.print_help()
        return CONFIG_ERROR
    from lingvo_lite.jobs.config import job_params

    job_params.Import(flags.imports)
    return flags.run_command(flags)


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


if __name__ == '__main__':
    sys.exit(Main())
