"""From flags to the Params of a job.

The trainer's are the experiment's, changed by --params_file and --set. Evaler and decoder take the
task from RUN/params.txt, and only the dataset from the experiment.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from lingvo_lite import experiment, hyperparams, overrides, registry
from lingvo_lite.inputs import data_files
from lingvo_lite.jobs.config import best_metric
from lingvo_lite.layers import base
from lingvo_lite.runs import rundir
from lingvo_lite.training import precision


@dataclasses.dataclass(frozen=True)
class Source:
    """Where changes to an experiment come from.

    Attributes:
      settings: 'key=value' of each --set.
      params_file: of --params_file; None for none.
      imports: modules of --import.
      data_dir: of --data_dir; None for none.
    """

    settings: Sequence[str] = ()
    params_file: Optional[str] = None
    imports: Sequence[str] = ()
    data_dir: Optional[str] = None


class TrainerParams(NamedTuple):
    """What a trainer works by.

    Attributes:
      run: the root Params, as params.txt has them.
      task: built from them without its variables.
      inputs: {dataset: Params of its input} of the datasets to evaluate.
      precision: what was chosen, and why.
    """

    run: Any
    task: Any
    inputs: dict[str, Any]
    precision: precision.Resolved


def Import(modules: Sequence[str]) -> None:
    """Imports what --import names.

    Raises:
      hyperparams.ConfigError: if one cannot be imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise hyperparams.ConfigError(f'--import={name}: {error}.') from None


def Experiment(model: str, source: Source) -> type[Any]:
    """The experiment, with all that its params may name imported and the data folder set."""
    Prepare(source)
    return registry.Get(model)


def Prepare(source: Source) -> None:
    """Imports what --import names, and sets the data folder."""
    Import(source.imports)
    if source.data_dir is not None:
        data_files.SetDataDir(source.data_dir)


def RunsExperiment(model: Optional[str], source: Source, run: rundir.RunDir) -> type:
    """The experiment of a run: `Experiment`, for a job that scores what was trained.

    Args:
      model: of --model; None for what the run says.
      source: changes to the params.
      run: has its params.

    Raises:
      hyperparams.ConfigError: if `model` is another one than the run's.
    """
    known = run.Model()
    if model is None:
        Prepare(source)
        return registry.GetInstalled(known)
    cls = Experiment(model, source)
    if registry.Name(cls) != known:
        raise hyperparams.ConfigError(
            f'{run.path} holds a run of {known}, not of {registry.Name(cls)}. '
            'Leave --model out, or name another --logdir.'
        )
    return cls


def ForDataset(cls: type, dataset: str, source: Source) -> Any:
    """The root Params of an experiment with one of its datasets, changed as the flags say."""
    params = experiment.RunParams(cls, dataset)
    _Change(params, cls, dataset, source)
    return params


def ForTrainer(
    cls: type, source: Source, datasets: Sequence[str], run: rundir.RunDir
) -> TrainerParams:
    """The Params of a trainer, every `auto` resolved; checked against those of the run, if any.

    Raises:
      hyperparams.ConfigError: if something does not fit, or the run is one with other params.
    """
    params = ForDataset(cls, 'Train', source)
    hyperparams.RequireRange(
        params.task.train,
        'max_steps',
        'save_interval_steps',
        'summary_interval_steps',
        'save_max_to_keep',
        at_least=1,
    )
    hyperparams.RequireRange(
        params.task.train, 'max_epochs', 'max_skipped_in_a_row', 'early_stop_window', at_least=0
    )
    inputs = {}
    for name in datasets:
        known = _KnownName(cls, name)
        inputs[known] = _InputOf(cls, known, source)
    before = _RunsPrecision(run) if params.task.train.precision == 'auto' else None
    if before is not None:
        params.task.train.SetFrom([('precision', before)], run.params_file)
    chosen = precision.Apply(params.task)
    if before is not None:
        chosen = chosen._replace(why='as this run began')
    task = DryBuild(params)
    best_metric.Resolve(params, task, cls, run)
    run.CheckParams(params)
    return TrainerParams(params, task, inputs, chosen)


def ForScoring(cls: type[Any], dataset: Optional[str], source: Source, run: rundir.RunDir) -> Any:
    """The root Params of an evaler or decoder: the task of the run, the input of the dataset.

    The tokenizer is that of the run too, if the dataset has that of Train. Params of the task that
    are free in a run (those of the search, say) may be changed by the flags.

    Args:
      cls: the run's experiment.
      dataset: its name; None for the input that the run is trained on.
      source: changes to the params.
      run: the log directory.

    Raises:
      hyperparams.ConfigError: if something does not fit.
    """
    params = _OfRun(run)
    trained_on = params.input
    if dataset is not None:
        params.SetFrom([('input', cls.Dataset(dataset))], f'dataset {dataset}')
        usual = cls.Dataset('Train')
        if all('tokenizer' in (each or ()) for each in (trained_on, params.input, usual)):
            # What flags have changed for the training holds for all of its datasets.
            if params.input.tokenizer == usual.tokenizer:
                params.input.SetFrom([('tokenizer', trained_on.tokenizer)], run.params_file)
    before = params.task.Copy()
    _Change(params, cls, dataset or 'Train', source)
    _CheckTokenizer(trained_on, dataset or 'Train', params)
    _CheckFree(before, params.task, run)
    return params


def ForReplay(run: rundir.RunDir, source: Source) -> Any:
    """The run's params; only modules of registered families and of --import are imported."""
    Prepare(source)
    family = run.Model().split('.')[0]
    if family in registry.Families():
        registry.List(family)
    return _OfRun(run)


def DryBuild(params: Any) -> Any:
    """Builds the task without its variables, so that every mistake shows before work begins.

    Returns:
      The task, to ask for paths and shapes of its variables.

    Raises:
      hyperparams.ConfigError: if the params do not fit each other.
    """
    with base.ShapesOnly():
        return params.task.Instantiate()


def BuildInput(params: Any, train: bool) -> Any:
    """Opens a dataset and plans its batches, so that what is wrong with the data shows now.

    Raises:
      hyperparams.ConfigError: if a file is missing or is not what it should be.
    """
    try:
        inputs = params.Instantiate()
        inputs.Order(train)
    except (OSError, ValueError) as error:
        if isinstance(error, hyperparams.ConfigError):
            raise
        raise hyperparams.ConfigError(str(error)) from error
    return inputs


def _OfRun(run: rundir.RunDir) -> Any:
    """The root Params as they stand in the run."""
    text = run.ReadParams()
    params = experiment.EmptyRunParams().SetLabel(run.Model())
    params.FromText(text, source=run.params_file)
    return params


def _Change(params: Any, cls: type, dataset: str, source: Source) -> None:
    """Applies --params_file, then each --set; 'Dev.input.x' goes to the dataset that it names."""
    if source.params_file is not None:
        overrides.ApplyFile(params, source.params_file)
    for number, setting in enumerate(source.settings, 1):
        name, dot, rest = setting.partition('.')
        if dot and name and name[0].isupper() and '=' not in name:
            known = _KnownName(cls, name, f' (from --set, argument {number})')
            if not rest.startswith('input.'):
                raise hyperparams.ConfigError(
                    f"{setting!r}: a dataset has an input, as in '{known}.input.KEY=VALUE' "
                    f'(from --set, argument {number}).'
                )
            if known != _KnownName(cls, dataset):
                # Of another job; a mistake in it shows here all the same.
                other = experiment.RunParams(cls, known)
                overrides.Apply(other, [rest], first=number)
                continue
            setting = rest
        overrides.Apply(params, [setting], first=number)


def _InputOf(cls: type, dataset: str, source: Source) -> Any:
    """The input of a dataset that is not the job's own: only 'Dev.input.…' changes it."""
    own = [s for s in source.settings if s.split('.')[0].lower() == dataset.lower()]
    return ForDataset(cls, dataset, Source(settings=own)).input


def _KnownName(cls: Any, name: str, where: str = '') -> str:
    """The dataset's name as the experiment spells it."""
    for known in cls.Datasets():
        if known.lower() == name.lower():
            return str(known)
    raise hyperparams.ConfigError(
        f'{registry.Name(cls)} has no dataset {name!r}{where}. It has: {", ".join(cls.Datasets())}.'
    )


def _RunsPrecision(run: rundir.RunDir) -> Optional[str]:
    """What 'auto' was resolved to when the run began; None if there is no run."""
    if not run.HasParams():
        return None
    for line in run.ReadParams().split('\n'):
        key, _, value = line.partition(' : ')
        if key == 'task.train.precision':
            return value.strip("'")
    return None


def _CheckTokenizer(trained_on: Any, dataset: str, params: Any) -> None:
    """A dataset in other tokens than the task was trained on scores nonsense.

    Args:
      trained_on: Params of the input that the run trains on; None if it has none.
      dataset: the name of the one to score.
      params: the root Params with its input.
    """
    theirs = params.input
    if trained_on is None or 'tokenizer' not in trained_on or 'tokenizer' not in theirs:
        return
    difference = trained_on.tokenizer.TextDiff(theirs.tokenizer)
    if difference:
        first = difference.split('\n')[0]
        raise hyperparams.ConfigError(
            f'{params.model}: the tokenizer of {dataset} is not the one that the run was trained '
            f'with: {first}. Leave --set=input.tokenizer... out: a run brings its own.'
        )


def _CheckFree(before: Any, after: Any, run: rundir.RunDir) -> None:
    fixed = [
        line
        for line in before.TextDiff(after).split('\n')
        if line and after.ResumeKind(line.lstrip('+- ').split(' : ')[0]) != 'free'
    ]
    if fixed:
        raise hyperparams.ConfigError(
            f'{run.path} was trained with task.{fixed[0]} (fixed for a run). Take the change back.'
        )
