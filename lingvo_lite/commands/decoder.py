"""decoder: decodes a dataset, or one's own text, with the checkpoints of a run."""

from __future__ import annotations

import argparse

from lingvo_lite import hyperparams
from lingvo_lite.commands import job_flags, parser as parser_lib


def Parser() -> parser_lib.Parser:
    """The parser of the flags."""
    parser = job_flags.JobParser(
        'decoder', "Decodes a dataset, or one's own text, with a run's checkpoints."
    )
    job_flags.AddScoring(parser)
    parser.add_argument(
        '--input',
        metavar='FILE',
        help="instead: one's own text, a sentence a line, or - for stdin; for speech an audio "
        'file, a list of them, a folder, or a pattern in quotes',
    )
    parser.add_argument(
        '--output', metavar='FILE', default='-', help='where --input goes; stdout unless given'
    )
    return parser


def Run(flags: argparse.Namespace) -> int:
    """Writes RUN/decode_<dataset>, or the lines of --input; returns the exit code."""
    if flags.input is None:
        job_flags.Need(flags, 'model', 'logdir', 'dataset')
        if flags.output != '-':
            raise hyperparams.ConfigError('--output goes with --input; there is none.')
        from lingvo_lite.jobs.scoring import decoding_pass, scorer

        return scorer.Run(
            **job_flags.Scoring(flags), make_pass=decoding_pass.DecodingPass, folder=flags.folder
        )
    job_flags.Need(flags, 'model', 'logdir')
    from lingvo_lite.jobs.scoring import own_input

    return own_input.Run(**job_flags.Scoring(flags), read_from=flags.input, write_to=flags.output)
