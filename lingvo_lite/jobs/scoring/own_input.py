"""decoder --input=FILE|-: decodes a user's own text, a sentence a line, or audio files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, Optional, TextIO

from lingvo_lite import hyperparams
from lingvo_lite.inputs import own_input, run_files, source as data_source
from lingvo_lite.inputs.speech import transcribed
from lingvo_lite.inputs.text import source_text
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.devices import runtime
from lingvo_lite.jobs.faults import signals
from lingvo_lite.jobs.reporting import console
from lingvo_lite.jobs.scoring import decoding_pass, scorer, weights
from lingvo_lite.runs import rundir

_log = logging.getLogger(__name__)
_WINDOW = 2000  # lines that are sorted by length and decoded together


def Run(
    model: Optional[str],
    logdir: str,
    dataset: Optional[str],
    source: job_params.Source,
    device: runtime.Wish,
    choice: weights.Choice,
    read_from: str,
    write_to: str,
) -> int:
    """Writes one best hypothesis a line, in the order of the input; an empty line for an empty one.

    Nothing is written into the run.

    Args:
      model, logdir, source, device, choice: as for `scorer.Run`; the newest checkpoint unless
        another one is chosen.
      dataset: whose input reads; None for the one that the run is trained on.
      read_from: a line file, or '-' for standard input. Where the dataset is speech the lines are
        paths of audio files; and it may be an audio file itself, a folder of them, or a pattern
        such as 'talks/*.flac', both sorted by path.
      write_to: a file, or '-' for standard output.

    Returns:
      The exit code.
    """
    console.SetUpLogging()
    run = rundir.RunDir(logdir)
    cls = job_params.RunsExperiment(model, source, run)
    params = job_params.ForScoring(cls, dataset, source, run)
    job_params.DryBuild(params)
    if 'tokenizer' not in params.input:
        raise hyperparams.ConfigError(
            f"--input takes text; the input of {params.model} has no param 'tokenizer'."
        )
    is_speech = issubclass(params.input.cls, transcribed.SpeechInput)
    if read_from != '-':
        _CheckThereIs(read_from, is_speech)
    stop_request = signals.StopRequest('The window at work is given up')
    with run_files.Of(run.files), stop_request as stop:
        try:
            prefixes = choice.Prefixes(run)
        except FileNotFoundError as error:
            raise hyperparams.ConfigError(str(error)) from None
        devices = runtime.Start(device, single_worker=True)
        models = max(1, len(choice.checkpoints))
        with devices.strategy.scope():
            tasks = [params.task.Instantiate() for _ in range(models)]
        scorer.LoadWeights(tasks, prefixes, choice)
        text, speech = source_text.SourceTextInput, transcribed.SpeechFilesInput
        reader: type[own_input.OwnInput] = speech if is_speech else text
        input_params = reader.FromParallel(params.input, read_from)
        scorer.CheckVocabulary(params.input.tokenizer.Instantiate().Fingerprint(), run, choice)
        decoder = decoding_pass.DecodingPass(tasks[0], devices, None, others=tasks[1:])
        with _Writer(write_to) as file:
            size = 1 if read_from == '-' and sys.stdin.isatty() else _WINDOW
            for lines in reader.Open(read_from).Windows(size):
                if stop.event.is_set():
                    break
                for line in _Translations(decoder, devices, input_params, lines):
                    file.write(line + '\n')
                file.flush()
    return stop.exit_code


def _CheckThereIs(read_from: str, is_speech: bool) -> None:
    """Raises ConfigError if there is nothing to read, or nothing of the kind that is read.

    Args:
      read_from: of --input; what is no file must be a folder or a pattern of audio files.
      is_speech: whether audio is wanted.
    """
    if os.path.isfile(read_from):
        if not os.path.getsize(read_from):
            raise hyperparams.ConfigError(f'--input: {os.path.abspath(read_from)} is empty.')
        if not is_speech:
            return
    try:
        if not is_speech:
            raise FileNotFoundError(f'there is no file {os.path.abspath(read_from)}.')
        transcribed.CheckPaths(read_from)
    except (FileNotFoundError, ValueError) as error:
        raise hyperparams.ConfigError(f'--input: {error}') from None


def _Translations(
    decoder: decoding_pass.DecodingPass,
    devices: runtime.Runtime,
    input_params: Any,
    lines: data_source.Source,
) -> list[str]:
    """The best hypothesis of each line, in order."""
    best = [''] * len(lines)
    inputs = input_params.Instantiate(lines=lines)
    with inputs.Batches(replicas=devices.replicas, train=False) as feed:
        for batch in feed:
            for record in decoder.Decode(batch.replicas, inputs, None):
                if record['source'].strip() and record['hypotheses']:
                    # A line stays a line.
                    best[record['id']] = ' '.join(record['hypotheses'][0].split('\n'))
    return best


@contextlib.contextmanager
def _Writer(path: str) -> Iterator[TextIO]:
    if path == '-':
        with contextlib.suppress(AttributeError):  # a test's StringIO
            sys.stdout.reconfigure(encoding='utf-8')  # type: ignore[union-attr]
        yield sys.stdout
        return
    temporary = f'{path}.tmp-{os.getpid()}'
    try:
        with open(temporary, 'w', encoding='utf-8') as file:
            yield file
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
