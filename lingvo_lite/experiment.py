"""BaseExperiment: a task and its datasets under one name."""

from __future__ import annotations

import inspect

from lingvo_lite import hyperparams, registry, task
from lingvo_lite.inputs import pipeline

_NOT_DATASETS = {'Task', 'Tiny', 'Datasets', 'Dataset'}


class BaseExperiment:
    """Subclass it, and put @registry.Register in front.

    Each public method besides `Task` and `Tiny` is a dataset: it takes no arguments and returns
    the Params of an input. `Train` is what the trainer reads.
    """

    def Task(self) -> hyperparams.InstantiableParams[task.BaseTask]:
        """Params of the task."""
        raise NotImplementedError(f'{type(self).__name__}.Task')

    def Train(self) -> hyperparams.InstantiableParams[pipeline.BaseInput]:
        """Params of the training input."""
        raise NotImplementedError(f'{type(self).__name__}.Train')

    def Tiny(self) -> hyperparams.InstantiableParams[task.BaseTask]:
        """`Task()` with only dimensions, depths and vocabulary made small, for tests."""
        raise NotImplementedError(f'{type(self).__name__}.Tiny')

    @classmethod
    def Datasets(cls) -> list[str]:
        """Names of the datasets, sorted."""
        methods = inspect.getmembers(cls, callable)
        return sorted(n for n, _ in methods if n[0].isupper() and n not in _NOT_DATASETS)

    @classmethod
    def Dataset(cls, name: str) -> hyperparams.InstantiableParams[pipeline.BaseInput]:
        """Params of a dataset, by its name in any case: 'Dev' or 'dev'.

        Raises:
          hyperparams.ConfigError: if there is none of this name.
        """
        for known in cls.Datasets():
            if known.lower() == name.lower():
                return getattr(cls(), known)()
        raise hyperparams.ConfigError(
            f'{registry.Name(cls)} has no dataset {name!r}; it has {", ".join(cls.Datasets())}.'
        )


def RunParams(cls: type[BaseExperiment], dataset: str) -> hyperparams.Params:
    """The Params of a job: `model`, `task` and `input`, the latter of the named dataset."""
    p = EmptyRunParams().SetLabel(registry.Name(cls))
    p.model = registry.Name(cls)
    p.task = cls().Task()
    p.input = cls.Dataset(dataset)
    return p


def EmptyRunParams() -> hyperparams.Params:
    """The root of every job's Params, to be filled from text or by `RunParams`."""
    p = hyperparams.Params()
    p.Define('model', '', "The experiment's name.")
    p.Define('task', None, 'The task.', type=hyperparams.Params, bound=task.BaseTask)
    p.Define('input', None, 'The input.', type=hyperparams.Params, bound=pipeline.BaseInput)
    return p
