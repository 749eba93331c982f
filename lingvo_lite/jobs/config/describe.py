"""What `lingvo_lite show | diff | check | inspect-input` print. No device is touched."""

from __future__ import annotations

import os
from typing import Any, Optional, TextIO

from lingvo_lite import experiment, hyperparams, registry
from lingvo_lite.configuration import text_form
from lingvo_lite.inputs import inspect
from lingvo_lite.jobs.config import job_params
from lingvo_lite.jobs.reporting import console
from lingvo_lite.runs import rundir


def Show(model: str, dataset: str, source: job_params.Source, why: Optional[str] = None) -> str:
    """The params of an experiment with one of its datasets, or all about one of them."""
    params = job_params.ForDataset(job_params.Experiment(model, source), dataset, source)
    return f'{params.Why(why)}\n' if why else params.ToText()


def Diff(a: str, b: str) -> str:
    """How the params of two models, params files or log directories differ, a line a key.

    For the lines see `text_form.DiffLines`.
    """
    lines = text_form.DiffLines(_Lines(a), _Lines(b))
    return ''.join(line + '\n' for line in lines) or 'no difference\n'


def Check(model: str, dataset: str, source: job_params.Source) -> str:
    """Builds the task without variables and checks all datasets without reading data."""
    cls: Any = job_params.Experiment(model, source)
    params = job_params.ForDataset(cls, dataset, source)
    task = job_params.DryBuild(params)
    lines = [
        f'{params.model}: {task.NumParameters():,} parameters in {len(task.Weights())} variables'
    ]
    for name in cls.Datasets():
        own = params if name.lower() == dataset.lower() else experiment.RunParams(cls, name)
        _CheckInput(own.input)
        lines.append(f'{name}: {own.input.cls.__name__}, params fit')
    return ''.join(line + '\n' for line in lines)


def InspectInput(model: str, dataset: str, source: job_params.Source, out: TextIO) -> None:
    """Writes about the first batches of a dataset: text, lengths, padding, longest items."""
    console.SetUpLogging()
    params = job_params.ForDataset(job_params.Experiment(model, source), dataset, source)
    train = dataset.lower() == 'train'
    inputs = job_params.BuildInput(params.input, train)
    out.write(inspect.InspectBatches(inputs, train=train))


def _CheckInput(params: Any) -> None:
    """As Instantiate, short of building."""
    frozen = params.Copy().Freeze()
    missing = [name for name, _ in frozen.Missing()]
    if missing:
        raise hyperparams.ConfigError(f'{params.Path()}: must be set: {", ".join(missing)}.')
    frozen.cls.Check(frozen)


def _Lines(what: str) -> dict[str, str]:
    """{key: value} of a model, params file or log directory."""
    if os.path.isdir(what):
        text = rundir.RunDir(what).ReadParams()
    elif os.path.isfile(what):
        try:
            with open(what, encoding='utf-8') as file:
                text = file.read()
        except UnicodeDecodeError:
            raise hyperparams.ConfigError(f'{what} is no params file: not UTF-8.') from None
    elif '/' in what:
        raise hyperparams.ConfigError(f'There is no params file or log directory {what}.')
    else:
        text = experiment.RunParams(registry.Get(what), 'Train').ToText()
    pairs = (line.partition(' : ') for line in text.split('\n') if not line.startswith('#'))
    found = {key: value for key, colon, value in pairs if colon}
    if not found:
        raise hyperparams.ConfigError(f"{what} is no params file: it has no line 'key : value'.")
    return found
