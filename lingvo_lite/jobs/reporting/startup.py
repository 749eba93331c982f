"""The first lines of a trainer's log: what is trained, on what, and in which batches."""

from __future__ import annotations

import itertools
import math
from typing import Any

from lingvo_lite.jobs.devices import runtime
from lingvo_lite.runs import tables
from lingvo_lite.training import precision

_SAMPLE = 100


def VariableTable(task: Any) -> str:
    """Path, shape and size of each variable, and the total; also of a task without variables.

    Args:
      task: a BaseLayer, which may have been built under `ShapesOnly`.
    """
    rows = []
    total = 0
    for path, weight in task.Weights().items():
        size = math.prod(weight.shape)
        total += size
        shape = ' x '.join(map(str, weight.shape)) or 'scalar'
        rows.append((path, shape, f'{size:,}', '' if weight.trainable else 'not trained'))
    trained = task.NumParameters()
    table = tables.Format(('variable', 'shape', 'size', ''), rows)
    rest = f', {total - trained:,} not trained' if total != trained else ''
    return f'{table}\n{len(rows)} variables, {trained:,} parameters{rest}.'


def BatchArithmetic(inputs: Any, devices: runtime.Runtime, accumulation: int) -> str:
    """What a step is made of: examples, tokens, padding, replicas, micro-batches.

    Args:
      inputs: the training input.
      devices: that share each batch.
      accumulation: micro-batches of a step.
    """
    plans = list(itertools.islice(inputs.Order(True).Walk(), _SAMPLE))
    plans = [plan for plan in plans if plan.epoch == 0] or plans
    rows = sum(len(plan.ids) for plan in plans) / len(plans)
    tokens = sum(plan.num_tokens for plan in plans) / len(plans)
    padded = sum(len(plan.ids) * sum(plan.padded) for plan in plans) / len(plans)
    replicas = devices.replicas * devices.num_workers
    parts = replicas * accumulation
    examples = inputs.NumExamples()
    text = (
        f'{examples:,} examples, about {rows:,.0f} a batch: {tokens:,.0f} tokens and '
        f'{100 * (1 - tokens / max(padded, 1)):.0f}% padding; '
        f'about {math.ceil(examples / rows):,} steps an epoch'
    )
    if parts > 1:
        text += (
            f'. {replicas} replicas x {accumulation} micro-batches: about {tokens / parts:,.0f} '
            'tokens in each'
        )
    return text


def DeviceAndPrecision(devices: runtime.Runtime, chosen: precision.Resolved, train: Any) -> str:
    """Where and in which type a step is computed, and why."""
    text = f'{devices.description}; precision {chosen.policy} ({chosen.why})'
    if train.deterministic_ops:
        text += '; deterministic ops, 10 to 20% slower'
    if train.jit_compile:
        text += '; compiled by XLA'
    return text
