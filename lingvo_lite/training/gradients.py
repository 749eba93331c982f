"""The gradient of a task's loss over all replicas and micro-batches.

The loss is L = sum_k c_k S_k / W_k over the terms k: c_k from `task.loss_weights`, S_k and W_k the
sum and the weight of the term over the global batch. The weights are summed over replicas before
the backward pass, so that a replica's gradient of S_k / W_k is its share of the whole, and the
gradients are summed in one all-reduce behind it. With micro-batches m, each is differentiated over
its own global weight (a sum over thousands of tokens overflows float16), and

    dL = sum_k c_k / W_k  sum_m W_mk d(S_mk / W_mk).

Then only terms that share a weight tensor can share a backward pass.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, Protocol

import tensorflow as tf

from lingvo_lite import hyperparams, step
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import clipping
from lingvo_lite.optim.loss_scale_optimizer import LossScaleOptimizer
from lingvo_lite.training import accumulation, communication

Pairs = dict[str, tuple[tf.Tensor, tf.Tensor]]
ByPath = dict[str, Optional[tf.Tensor]]


class Recorder(Protocol):
    """An observer for step.Context that is also told the gradients."""

    def __call__(self, path: str, outputs: Any) -> Any:
        """Sees the outputs of the layer at `path`; returns what stands in for them."""

    def Tensors(self) -> list[tf.Tensor]:
        """What was seen in the present micro-batch, to be differentiated by."""

    def SetGradients(
        self, seen: Sequence[Optional[tf.Tensor]], variables: Mapping[str, Optional[tf.Tensor]]
    ) -> None:
        """Takes the gradients of `Tensors()` and of the variables."""


class Settings(NamedTuple):
    """What a step sets for its forward and backward passes.

    Attributes:
      step: int64 scalar.
      vn_std: float32 scalar; None for no variational noise.
      scale: float32 scalar that the loss is multiplied with for the backward pass, for the
        LossScaleOptimizer; None without one.
    """

    step: Any
    vn_std: Optional[tf.Tensor] = None
    scale: Optional[tf.Tensor] = None


class Reduced(NamedTuple):
    """What is the same on all replicas. All float32.

    Attributes:
      gradients: {path: gradient}, not scaled.
      loss: scalar.
      terms: {name: (sum, weight)} over the global batch.
      metrics: {name: (sum, weight)} over the global batch.
    """

    gradients: dict[str, tf.Tensor]
    loss: tf.Tensor
    terms: Pairs
    metrics: Pairs


class LossGradient:
    """Computes `Reduced`, on a replica.

    Args:
      task: a task.BaseTask.
      losses: {names of terms, () for all: {path: variable}}: which variables are trained on which
        terms. A variable stands under one of them.
      count: micro-batches in a step.
      loss_scale_optimizer: scales the loss, and unscales the gradients; None if nothing does.
    """

    def __init__(
        self,
        task: Any,
        losses: Mapping[tuple[str, ...], Mapping[str, tf.Variable]],
        count: int,
        loss_scale_optimizer: Optional[LossScaleOptimizer] = None,
    ):
        self._task = task
        self._losses = {names: dict(variables) for names, variables in losses.items()}
        self._count = count
        self._loss_scale_optimizer = loss_scale_optimizer
        self._communication = task.params.train.communication

    def __call__(
        self, batch: NestedMap, settings: Settings, recorder: Optional[Recorder] = None
    ) -> Reduced:
        """See the module's docstring. Called inside strategy.run.

        Args:
          batch: of this replica.
          settings: of the step.
          recorder: sees every layer's output, and the gradients.

        Raises:
          ValueError: if ComputeLoss returns what is no loss.
          hyperparams.ConfigError: if a term is named that ComputeLoss does not return, or a
            variable that is to be trained takes no part in the loss.
        """
        total = _Total()
        for number in range(self._count):
            rows, counted = batch, None
            if self._count > 1:
                after = total.Gradients()
                rows, counted = accumulation.MicroBatch(batch, number, self._count, after)
            context = step.Context(
                training=True,
                step=settings.step,
                seed=self._task.params.random_seed or 0,
                micro_batch=number,
                replica=tf.distribute.get_replica_context().replica_id_in_sync_group,
                vn_std=settings.vn_std,
                observer=recorder,
            )
            with context:
                self._AddMicroBatch(rows, counted, settings.scale, recorder, total)
        return self._Reduce(total, settings.scale)

    def _AddMicroBatch(
        self,
        rows: NestedMap,
        counted: Optional[tf.Tensor],
        scale: Optional[tf.Tensor],
        recorder: Optional[Recorder],
        total: _Total,
    ) -> None:
        """The forward and backward pass of one micro-batch, added to `total`."""
        with tf.GradientTape(persistent=True) as tape:
            loss = self._task.ComputeLoss(self._task.ComputePredictions(rows), rows)
            terms = CheckedPairs(loss, 'terms')
            metrics = CheckedPairs(loss, 'metrics')
            parts = self._Parts(terms)
            if counted is not None:
                terms, metrics = _Times(counted, terms), _Times(counted, metrics)
            with tape.stop_recording():
                weights = self._GlobalWeights(terms)
            targets = []
            for _, names in parts:
                target = self._Combine({k: (terms[k][0], weights[k]) for k in names})
                if self._loss_scale_optimizer is not None:
                    target = self._loss_scale_optimizer.scale_loss(target, scale)
                targets.append(target)
        total.AddPairs(terms, weights, metrics)
        for (loss_terms, names), target in zip(parts, targets):
            variables = self._losses[loss_terms]
            seen = recorder.Tensors() if recorder is not None else []
            found = tape.gradient(target, [*variables.values(), *seen])
            gradients = dict(zip(variables, found))
            if recorder is not None:
                recorder.SetGradients(found[len(variables) :], gradients)
            factor = None if counted is None else weights[names[0]]
            total.AddGradients((loss_terms, names), gradients, factor)
        del tape

    def _GlobalWeights(self, terms: Pairs) -> dict[str, tf.Tensor]:
        """The weight of each term summed over all replicas, in one all-reduce."""
        own = tf.stack([tf.stop_gradient(weight) for _, weight in terms.values()])
        (summed,) = communication.Sum([own], communication.Options(self._communication))
        return dict(zip(terms, tf.unstack(summed)))

    def _Parts(self, terms: Pairs) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """(loss, those of its terms) of each backward pass."""
        for names in self._losses:
            self._CheckNames('train.learners: loss_terms', names, terms)
        self._CheckNames('loss_weights', self._task.params.loss_weights, terms)
        parts = []
        for loss in self._losses:
            names = loss or tuple(sorted(terms))
            by_weight: dict[int, list[str]] = {}
            for name in names:
                key = id(terms[name][1]) if self._count > 1 else 0
                by_weight.setdefault(key, []).append(name)
            parts += [(loss, tuple(group)) for group in by_weight.values()]
        return parts

    def _CheckNames(self, key: str, names: Any, terms: Pairs) -> None:
        for name in names:
            if name not in terms:
                near = difflib.get_close_matches(name, terms, n=1)
                hint = f' Did you mean {near[0]!r}?' if near else ''
                raise hyperparams.Fail(
                    self._task.params,
                    f'{key} names the loss term {name!r}; '
                    f'{type(self._task).__name__}.ComputeLoss returns: '
                    f'{", ".join(sorted(terms))}.{hint}',
                )

    def _Combine(self, terms: Pairs) -> tf.Tensor:
        """sum_k c_k S_k / W_k; a term without weight is 0."""
        factors = self._task.params.loss_weights
        values = []
        for name, (value, weight) in terms.items():
            mean = tf.math.divide_no_nan(value, weight)
            values.append(mean * factors[name] if factors.get(name, 1.0) != 1.0 else mean)
        return values[0] if len(values) == 1 else tf.add_n(values)

    def _Unscaled(
        self, gradients: ByPath, weight: Optional[tf.Tensor], scale: Optional[tf.Tensor]
    ) -> ByPath:
        """The gradients over weight and scale; weight None is 1."""
        if self._loss_scale_optimizer is not None:
            return self._loss_scale_optimizer.unscale_gradients(gradients, scale, weight)
        if weight is None:
            return gradients
        return clipping.Times(gradients, tf.math.divide_no_nan(1.0, weight))

    def _Reduce(self, total: _Total, scale: Optional[tf.Tensor]) -> Reduced:
        """Everything summed over replicas, in one all-reduce (in two, if one is of float16)."""
        gradients = total.MeanGradients(
            functools.partial(self._Unscaled, scale=scale), weighted=self._count > 1
        )
        unused = sorted(path for path, gradient in gradients.items() if gradient is None)
        if unused:
            raise hyperparams.Fail(
                self._task.params,
                f'{len(unused)} trainable variables take no part in the loss: '
                f'{", ".join(unused[:20])}. Create them only where they are used, or exclude them '
                'with train.bprop_variable_exclusion.',
            )
        # [terms + 2 metrics]: what is still only this replica's
        own = tf.stack(
            [*total.sums.values(), *(x for pair in total.metrics.values() for x in pair)]
        )
        options = communication.Options(self._communication)
        if self._communication.float16_gradients:
            values, own = communication.SumAsFloat16([*gradients.values()], own, options)
        else:
            *values, own = communication.Sum([*gradients.values(), own], options)
        reduced = iter(tf.unstack(own))
        terms = {name: (next(reduced), total.weights[name]) for name in total.sums}
        metrics = {name: (next(reduced), next(reduced)) for name in total.metrics}
        trained = {name for loss in self._losses for name in (loss or terms)}
        loss = self._Combine({name: terms[name] for name in terms if name in trained})
        return Reduced(dict(zip(gradients, values)), loss, terms, metrics)


class _Total:
    """What the micro-batches so far add up to.

    Attributes:
      sums: {term: sum of this replica}.
      weights: {term: weight of all replicas}.
      metrics: {metric: (sum, weight) of this replica}.
      parts: {(loss, names): {path: gradient, or None where the part does not reach}}.
    """

    def __init__(self) -> None:
        self.sums: dict[str, tf.Tensor] = {}
        self.weights: dict[str, tf.Tensor] = {}
        self.metrics: Pairs = {}
        self.parts: dict[Any, ByPath] = {}

    def AddPairs(self, terms: Pairs, weights: dict[str, tf.Tensor], metrics: Pairs) -> None:
        for name, (value, _) in terms.items():
            self.sums[name] = _Plus(self.sums.get(name), value)
            self.weights[name] = _Plus(self.weights.get(name), weights[name])
        for name, pair in metrics.items():
            before = self.metrics.get(name, (None, None))
            self.metrics[name] = (_Plus(before[0], pair[0]), _Plus(before[1], pair[1]))

    def AddGradients(
        self, part: Any, gradients: Mapping[str, Any], factor: Optional[tf.Tensor]
    ) -> None:
        """Adds factor * gradients, in float32; factor None is 1."""
        sums = self.parts.setdefault(part, {})
        for path, gradient in gradients.items():
            if gradient is None:
                sums.setdefault(path, None)
                continue
            value = tf.cast(tf.convert_to_tensor(gradient), tf.float32)
            sums[path] = _Plus(sums.get(path), value if factor is None else value * factor)

    def Gradients(self) -> list[tf.Tensor]:
        return [g for sums in self.parts.values() for g in sums.values() if g is not None]

    def MeanGradients(
        self, over: Callable[[ByPath, Optional[tf.Tensor]], ByPath], weighted: bool
    ) -> ByPath:
        """{path: mean gradient}, the parts summed; sorted by path.

        Args:
          over: divides gradients by a weight, None for 1.
          weighted: whether the gradients are sums.
        """
        means: ByPath = {}
        for (_, names), sums in self.parts.items():
            for path, value in over(sums, self.weights[names[0]] if weighted else None).items():
                if value is None:
                    means.setdefault(path, None)
                else:
                    means[path] = _Plus(means.get(path), value)
        return dict(sorted(means.items()))


def CheckedPairs(loss: Mapping[str, Any], key: str) -> Pairs:
    """loss[key], {name: (sum, weight)}, as float32 scalars.

    Raises:
      ValueError: if it is something else. `metrics` may be missing, `terms` may not.
    """
    pairs = loss.get(key, {})
    if key == 'terms' and not pairs:
        raise ValueError('ComputeLoss returns no terms: terms={name: (sum, weight)} is wanted.')
    checked = {}
    for name, pair in sorted(pairs.items()):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f'ComputeLoss: {key}.{name} must be (sum, weight), got {pair!r}.')
        if not name.isidentifier():
            raise ValueError(f'ComputeLoss: {key} has a name that is no identifier: {name!r}.')
        checked[name] = (_Scalar(f'{key}.{name}: sum', pair[0]), _Scalar(f'{key}.{name}', pair[1]))
    return checked


def _Scalar(what: str, value: Any) -> tf.Tensor:
    # A tensor that is float32 already stays the same object: `_Parts` compares weights so.
    if not tf.is_tensor(value):
        value = tf.constant(value, tf.float32)
    if value.shape.rank not in (0, None):
        raise ValueError(f'ComputeLoss: {what} must be a scalar, got {value.shape.as_list()}.')
    return value if value.dtype == tf.float32 else tf.cast(value, tf.float32)


def _Times(factor: tf.Tensor, pairs: Pairs) -> Pairs:
    return {name: (value * factor, weight * factor) for name, (value, weight) in pairs.items()}


def _Plus(total: Optional[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    return value if total is None else total + value
