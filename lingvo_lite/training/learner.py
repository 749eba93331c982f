"""Learner: trains a task, one step at a time.

    with strategy.scope():
        task = task_params.Instantiate()
    learner = Learner(task, strategy)
    result = learner.TrainStep(batches)
    print(result.Read().loss)

A step: sum and weight of each term of the loss on each replica -> weights summed over replicas ->
loss scaled -> gradients -> float32, not scaled -> summed over replicas (`gradients`) ->
regularizers -> finite? one answer for all -> clipping -> optimizers -> moving averages. Under
mixed_float16 a `loss_scale_optimizer` scales, unscales, decides and updates.

A step whose loss or gradients are not finite changes nothing but the counters and the loss scale.
The decision is made between two strategy.run, so no replica can wait in a collective for another
that has skipped.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import clipping, joint_update, regularizers
from lingvo_lite.optim.loss_scale_optimizer import LossScaleOptimizer
from lingvo_lite.training import ema, gradients, replica_function, step_result, variable_groups


class Learner:
    """See the module's docstring.

    Args:
      task: a task.BaseTask, built in `strategy.scope()`. Its variables should have the values to
        start from: moving averages start there too.
      strategy: a tf.distribute strategy; tf.distribute.get_strategy() for one device.

    Attributes:
      task, strategy: as given.
      groups: variables with their optimizers (variable_groups.Group).
      frozen: paths of the trainable variables that are not trained.
      step: int64 variable, batches consumed, skipped ones included.
      updates: int64 variable, updates applied. Schedules and optimizers follow it.
      skipped: int64 variable, step - updates of this run.
      skipped_in_a_row: int64 variable.
      loss_scale_optimizer: an optim.loss_scale_optimizer.LossScaleOptimizer around the optimizers
        of the groups; None unless the task computes in float16.

    Raises:
      hyperparams.ConfigError: if `task.params.train` does not fit the task.
    """

    def __init__(self, task: Any, strategy: tf.distribute.Strategy):
        self.task = task
        self.strategy = strategy
        train = task.params.train
        _CheckParams(task.params, strategy)
        trainable = task.TrainableVariables()
        paths = variable_groups.TrainedPaths(train, list(trainable))
        self.frozen = sorted(set(trainable) - set(paths))
        self._regularized = _Regularized(train, task, paths)
        with strategy.scope():
            self.groups = variable_groups.MakeGroups(train, {p: trainable[p] for p in paths})
            self.loss_scale_optimizer = self._Build(train)
            self.step = _Counter('step')
            self.updates = _Counter('updates')
            self.skipped = _Counter('skipped')
            self.skipped_in_a_row = _Counter('skipped_in_a_row')
            # Set while a step is tried: it changes nothing then.
            self._trying = tf.Variable(
                False,
                trainable=False,
                name='trying',
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        self._ema = None
        if train.ema_decay:
            self._ema = ema.Ema(strategy, task.AllVariables(), train.ema_decay)
        # Statistics that the forward pass itself changes.
        self._statistics = [v for p, v in task.AllVariables().items() if p not in trainable]
        self._losses = _Losses(self.groups)
        self.gradient = gradients.LossGradient(
            task, self._losses, train.accumulation, self.loss_scale_optimizer
        )
        self._names: list[str] = []
        self._function = replica_function.ReplicaFunction(
            strategy, self._Step, 'TrainStep', jit_compile=train.jit_compile
        )

    @property
    def num_traces(self) -> int:
        """How often the step was traced."""
        return self._function.num_traces

    def TrainStep(self, batches: Sequence[NestedMap]) -> step_result.StepResult:
        """One step on one global batch.

        Args:
          batches: a batch for each replica of this worker, of numpy arrays or tensors.

        Returns:
          What the step did, still on the device.

        Raises:
          replica_function.BatchError: if the batches do not have the form of the first ones.
        """
        values = self._function(batches)
        return step_result.StepResult(self._names, values)

    def TryStep(self, batches: Sequence[NestedMap]) -> step_result.StepResult:
        """A step that changes nothing, by the same trace: forward and backward pass, no update.

        For finding out whether a batch fits into memory. Counters, loss scale, statistics and
        moving averages are what they were, so the next `TrainStep` is what it would have been.

        Args:
          batches: as for `TrainStep`.

        Returns:
          What the step would have done; it is done when this returns.
        """
        self._trying.assign(True)
        try:
            result = self.TrainStep(batches)
            result.Read()
        finally:
            self._trying.assign(False)
        return result

    @property
    def check_every(self) -> int:
        """`MustStop` is to be asked at least so often, in steps: each time waits for the device."""
        train = self.task.params.train
        return 1 if train.on_non_finite == 'stop' else train.max_skipped_in_a_row + 1

    def MustStop(self, numbers: NestedMap) -> bool:
        """Whether training cannot go on: too many steps without an update, float16 overflows at
        the smallest loss scale, or with `on_non_finite='stop'` any step without an update.

        A smaller loss scale is the answer to gradients that overflow in float16, so these are
        skipped under both policies.

        Args:
          numbers: what `StepResult.Read` returned.
        """
        train = self.task.params.train
        if numbers.skipped_in_a_row > train.max_skipped_in_a_row:
            return True
        if numbers.get('overflows_at_floor', 0) > 0:
            return True
        if numbers.finite or train.on_non_finite == 'skip':
            return False
        optimizer = self.loss_scale_optimizer
        adapts = optimizer is not None and optimizer.loss_scale.adapts
        return not (adapts and math.isfinite(numbers.loss))

    @contextlib.contextmanager
    def StatisticsKept(self) -> Iterator[None]:
        """Whatever passes are run inside, statistics (of batch norm, say) are what they were."""
        before = [variable.numpy() for variable in self._statistics]
        try:
            yield
        finally:
            for variable, value in zip(self._statistics, before):
                variable.assign(value)

    def State(self) -> dict[str, tf.Variable]:
        """{name in a checkpoint: variable} of all that a run needs to go on exactly."""
        state = dict(self.task.AllVariables())
        for group in self.groups:
            for (path, slot), variable in group.optimizer.Slots().items():
                owner = path or (f'.state/{group.name}' if group.name else '.state')
                state[f'{owner}/.slot/{slot}' if path else f'{owner}/{slot}'] = variable
        if self._ema:
            state.update({f'{path}/.ema': v for path, v in self._ema.Variables().items()})
        if self.loss_scale_optimizer:
            scale = self.loss_scale_optimizer.loss_scale
            state.update({f'.loss_scale/{n}': v for n, v in scale.State().items()})
        for name in ('step', 'updates', 'skipped', 'skipped_in_a_row'):
            state[f'.{name}'] = getattr(self, name)
        return state

    def Substitutes(self) -> dict[Any, tf.Variable]:
        """{variable.ref(): moving average}, for evaluation; {} without `train.ema_decay`."""
        return self._ema.Substitutes() if self._ema else {}

    def Settings(self, step: Any) -> gradients.Settings:
        """What the forward and backward passes of a step are computed with, as of now.

        Args:
          step: int64 scalar, the number of the step.
        """
        train = self.task.params.train
        vn_std = None
        if train.vn_std:
            vn_std = tf.where(tf.cast(step, tf.int64) >= train.vn_start_step, train.vn_std, 0.0)
        scale = None
        if self.loss_scale_optimizer:
            scale = tf.identity(self.loss_scale_optimizer.dynamic_scale)
        return gradients.Settings(step, vn_std, scale)

    def _Build(self, train: Any) -> Optional[LossScaleOptimizer]:
        """Builds the optimizers; returns what is around them under mixed_float16."""
        if self.task.dtype == tf.float16:
            inner = [group.optimizer for group in self.groups]
            optimizer = LossScaleOptimizer(inner, train.loss_scale.Instantiate())
            optimizer.build([group.variables for group in self.groups])
            return optimizer
        for group in self.groups:
            group.optimizer.Build(group.variables)
        return None

    def _Step(self, batch: Any) -> tf.Tensor:
        """The step; `batch` is the per-replica value. Returns the numbers for StepResult."""
        updates = self.updates.read_value()
        settings = self.Settings(self.step.read_value())
        rates = [g.learning_rate * g.schedule.Value(updates) for g in self.groups]
        statistics = [variable.read_value() for variable in self._statistics]
        found, numbers = self.strategy.run(self._Gradients, args=(batch, settings))
        numbers = {k: replica_function.FirstLocal(self.strategy, v) for k, v in numbers.items()}
        trying = self._trying.read_value()

        def UpdateAverages() -> None:
            if self._ema:
                self._ema.Update(updates + 1)

        def ResetStatistics() -> None:
            for variable, value in zip(self._statistics, statistics):
                variable.assign(value)

        update: dict[str, Any] = {
            'gradients': found,
            'learning_rates': rates,
            'checked': [numbers['grad_norm'], numbers['loss']],
            'trying': trying,
            'also': UpdateAverages,
            'instead': ResetStatistics,
        }
        if self.loss_scale_optimizer:
            largest = numbers.pop('max_gradient', None)
            finite = self.loss_scale_optimizer.apply(**update, max_gradient=largest)
            numbers['loss_scale'] = settings.scale
            numbers['overflows_at_floor'] = self.loss_scale_optimizer.loss_scale.overflows_at_floor
        else:
            optimizers = [group.optimizer for group in self.groups]
            finite = joint_update.ApplyIfFinite(self.strategy, optimizers, **update)
        applied = tf.cast(finite, tf.int64)
        in_a_row = self.skipped_in_a_row.read_value()
        counters = {
            'step': settings.step + 1,
            'updates': updates + applied,
            'skipped': self.skipped.read_value() + 1 - applied,
            'skipped_in_a_row': tf.where(finite, tf.zeros_like(in_a_row), in_a_row + 1),
        }
        for name, value in counters.items():
            counter = getattr(self, name)
            counter.assign(tf.where(trying, counter.read_value(), value))
        numbers.update(counters, finite=applied)
        for group, rate in zip(self.groups, rates):
            key = f'learning_rate.{group.name}' if group.name else 'learning_rate'
            numbers[key] = rate
        self._names = list(numbers)
        return tf.stack([tf.cast(value, tf.float64) for value in numbers.values()])

    def _Gradients(
        self, batch: NestedMap, settings: gradients.Settings
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """On a replica: (the clipped gradients of the global batch, numbers to show)."""
        return self.Processed(self.gradient(batch, settings))

    def Processed(
        self, reduced: gradients.Reduced
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """(the gradients, regularized and clipped; numbers for StepResult). On a replica.

        Args:
          reduced: of `self.gradient`.
        """
        numbers = {'loss': reduced.loss}
        for kind, pairs in (('terms', reduced.terms), ('metrics', reduced.metrics)):
            for name, (value, weight) in pairs.items():
                numbers[f'{kind}.{name}.sum'] = value
                numbers[f'{kind}.{name}.weight'] = weight
        found = reduced.gradients
        optimizer = self.loss_scale_optimizer
        if optimizer and optimizer.loss_scale.needs_max_gradient:
            numbers['max_gradient'] = clipping.MaxAbs(found)
        penalties = []
        for regularizer, variables in self._regularized:
            penalties.append(regularizer.Loss(variables))
            found = regularizer.AddGradients(found, variables)
        if penalties:
            numbers['regularization'] = tf.add_n(penalties)
        train = self.task.params.train
        squares = []
        for variables in self._losses.values():
            # A loss is clipped by the norm of all that it trains, whatever the groups.
            own = {path: found[path] for path in variables}
            norm = clipping.GlobalNorm(own)
            squares.append(norm * norm)
            if train.clip_gradient_norm_to_value:
                own, _ = clipping.ClipByGlobalNorm(own, train.clip_gradient_norm_to_value, norm)
            if train.clip_gradient_value:
                own = clipping.ClipByValue(own, train.clip_gradient_value)
            found = {**found, **own}
        numbers['grad_norm'] = norm if len(squares) == 1 else tf.sqrt(tf.add_n(squares))
        return found, numbers


def _Losses(
    groups: Sequence[variable_groups.Group],
) -> dict[tuple[str, ...], dict[str, tf.Variable]]:
    """{terms of the loss: {path: variable}}: groups with the same terms share a loss."""
    losses: dict[tuple[str, ...], dict[str, tf.Variable]] = {}
    for group in groups:
        losses.setdefault(group.loss_terms, {}).update(group.variables)
    return losses


def _Regularized(
    train: Any, task: Any, paths: Sequence[str]
) -> list[tuple[Any, dict[str, tf.Variable]]]:
    """(regularizer, {path: variable}) for each regularizer that is on."""
    chosen: list[Any] = []
    if train.l2_regularizer_weight:
        chosen.append(regularizers.L2(train.l2_regularizer_weight))
    if train.l1_regularizer_weight:
        chosen.append(regularizers.L1(train.l1_regularizer_weight))
    if not chosen:
        return []
    allowed = sorted(task.RegularizedPaths() & set(paths))
    variables = task.TrainableVariables()
    found = variable_groups.Matching(train, 'regularizer_filter', allowed)
    return [(regularizer, {path: variables[path] for path in found}) for regularizer in chosen]


def _Counter(name: str) -> tf.Variable:
    return tf.Variable(
        0,
        dtype=tf.int64,
        trainable=False,
        name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def _CheckParams(params: Any, strategy: tf.distribute.Strategy) -> None:
    """Raises ConfigError for values of `task.train` that cannot be meant."""
    train = params.train
    hyperparams.RequireRange(train, 'accumulation', at_least=1)
    hyperparams.RequireRange(train, 'ema_decay', at_least=0, below=1)
    hyperparams.RequireRange(
        train,
        'vn_std',
        'clip_gradient_norm_to_value',
        'clip_gradient_value',
        'l2_regularizer_weight',
        'l1_regularizer_weight',
        'communication.bytes_per_pack',
        'communication.timeout_seconds',
        at_least=0,
    )
    if bool(train.vn_std) != params.vn.global_vn:
        raise hyperparams.Fail(
            params,
            f'variational noise needs both train.vn_std > 0 and vn.global_vn=True; got '
            f'train.vn_std={train.vn_std} and vn.global_vn={params.vn.global_vn}.',
        )
    if train.jit_compile and strategy.num_replicas_in_sync > 1:
        raise hyperparams.Fail(
            train,
            f'jit_compile works on one replica, and there are {strategy.num_replicas_in_sync}.',
            key='jit_compile',
        )
