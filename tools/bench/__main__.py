"""The command: runs benches and prints their table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import tensorflow as tf

from lingvo_lite.jobs.devices import runtime

from . import feed, hearing, recurrent, results, search, speech, start, step

BENCHES: dict[str, Callable[[bool], Iterator[results.Result]]] = {
    'a': step.over_by_hand,
    'b': step.bfloat16_over_float32,
    'c': feed.input_over_training,
    'd': search.cache_over_none,
    'd2': search.search_over_by_hand,
    'e': start.command_to_first_step,
    'f': recurrent.lstm_over_keras,
    'g': hearing.features_on_one_core,
    'h': speech.speech_over_by_hand,
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the benches named, or all."""
    parser = argparse.ArgumentParser(
        prog='python -m lingvo_lite.tools.bench',
        description='Ratios, measured side by side in one run. Leave the machine alone meanwhile.',
        epilog='\n'.join(f'{name:3} {bench.__doc__}' for name, bench in BENCHES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('benches', nargs='*', metavar='BENCH', help='default: all')
    parser.add_argument(
        '--quick', action='store_true', help='tiny sizes: shows that all runs, measures nothing'
    )
    flags = parser.parse_args(argv)
    unknown = sorted(set(flags.benches) - set(BENCHES))
    if unknown:
        parser.error(f'no bench {", ".join(unknown)}; there are: {", ".join(BENCHES)}.')
    devices = runtime.Start(runtime.Wish(strategy='one'))  # with the options of our jobs
    found = []
    for name in flags.benches or BENCHES:
        print(f'{name}: {BENCHES[name].__doc__}', file=sys.stderr, flush=True)
        found += BENCHES[name](flags.quick)
    print(results.table(found))
    note = '; --quick: sizes too small to mean anything' if flags.quick else ''
    print(f'{devices.description}, TensorFlow {tf.__version__}{note}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
