"""Which score best/ is chosen by: that there is such a score, and whether a large one is good."""

from __future__ import annotations

import difflib
import os
from typing import Any, Optional

from lingvo_lite import hyperparams
from lingvo_lite.runs import rundir

# Of what tasks return from ComputeLoss, by the name of the metric or a part of it.
_SMALL_IS_GOOD = ('loss', 'pplx', 'error')
_LARGE_IS_GOOD = ('accuracy', 'fraction_of_correct')


def Resolve(params: Any, task: Any, cls: Any, run: rundir.RunDir) -> None:
    """Checks `eval.best_metric` before training, and decides `eval.best_mode='auto'`.

    Args:
      params: the root Params.
      task: built from them, with or without variables.
      cls: the experiment.
      run: the log directory.

    Raises:
      hyperparams.ConfigError: if no job of this experiment writes such a score, or nothing says
        whether a large one is good.
    """
    p = params.task.eval
    larger = None
    if p.best_metric:
        folder, _, metric = p.best_metric.partition('/')
        decodes = _Folder(p, cls, run, folder, metric)
        larger = _Decoded(p, task, folder, metric) if decodes else _Evaluated(metric)
        if larger is None and p.best_mode == 'auto':
            raise hyperparams.Fail(
                p,
                f"best_metric={p.best_metric!r}: set best_mode to 'max' if a large one is good, "
                "otherwise to 'min'.",
                'best_metric',
            )
        if larger is not None and p.best_mode == ('min' if larger else 'max'):
            raise hyperparams.Fail(
                p,
                f'best_mode={p.best_mode!r} would keep the worst {metric}. Leave it out.',
                'best_mode',
            )
    if p.best_mode == 'auto':
        p.SetFrom([('best_mode', 'max' if larger else 'min')], 'best_metric')


def _Folder(p: Any, cls: Any, run: rundir.RunDir, folder: str, metric: str) -> bool:
    """Whether the folder is a decoder's; ConfigError if no job writes it."""
    jobs = {
        os.path.basename(run.Folder(job, dataset)): job
        for dataset in cls.Datasets()
        for job in ('eval', 'decode')
    }
    if folder in jobs and metric:
        return jobs[folder] == 'decode'
    if p.best_metric == p.Default('best_metric'):
        return False  # nobody has asked for it, and there is no such dataset
    near = difflib.get_close_matches(folder, jobs, n=2)
    hint = f' Did you mean {" or ".join(near)}?' if near and folder not in jobs else ''
    raise hyperparams.Fail(
        p,
        "best_metric is a folder and a metric in it, such as 'eval_dev/log_pplx'; got "
        f'{p.best_metric!r}.{hint} Folders: {", ".join(sorted(jobs))}.',
        'best_metric',
    )


def _Decoded(p: Any, task: Any, folder: str, metric: str) -> Optional[bool]:
    """Whether a large value of a decoder's metric is good; ConfigError if there is none."""
    known = {each.name: each for each in task.CreateDecoderMetrics().values()}
    if metric in known:
        return known[metric].larger_is_better  # type: ignore[no-any-return]
    if metric.split('/')[0] in known:
        return None  # a part of it: errors of one kind, say
    raise hyperparams.Fail(
        p,
        f'best_metric={p.best_metric!r}: the task has no metric {metric!r} in {folder}. It has: '
        f'{", ".join(sorted(known)) or "none"}.',
        'best_metric',
    )


def _Evaluated(metric: str) -> Optional[bool]:
    """Whether a large value of a metric of ComputeLoss is good, by its name; None: unknown."""
    if any(part in metric for part in _LARGE_IS_GOOD):
        return True
    return False if any(part in metric for part in _SMALL_IS_GOOD) else None
