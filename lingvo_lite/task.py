"""BaseTask: what is trained, evaluated and decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.metrics import BaseMetric
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.optim import loss_scale, optimizers, schedules, variable_group


class BaseTask(base.BaseLayer):
    """The layer at the root, and its loss, its search and its scores.

    Attributes of Params:
      train, eval, vn: how it is trained and evaluated; there is one copy of each.
      loss_weights: what the terms of the loss are multiplied with.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """The Params of this task."""
        p = super().Params()
        p.random_seed = 1
        p.Define('train', TrainParams(), 'Training.')
        p.Define('eval', EvalParams(), 'Evaluation and decoding.')
        p.Define('vn', _VariationalNoiseParams(), 'Variational noise (Graves, 2011).')
        p.Define(
            'loss_weights',
            {},
            'Name of a loss term -> its weight in the loss; 1.0 for a term that is not named.',
        )
        return p

    # In the graph.

    def ComputePredictions(self, batch: NestedMap) -> NestedMap:
        """The forward pass.

        Args:
          batch: what the experiment's input yields, batch-major.

        Returns:
          What `ComputeLoss` needs.
        """
        raise NotImplementedError(f'{type(self).__name__}.ComputePredictions')

    def ComputeLoss(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """The loss as a sum of named terms.

        Args:
          predictions: from `ComputePredictions`.
          batch: the same batch.

        Returns:
          terms: {name: (sum, weight)}, float32 scalars; the learner divides each sum by the
            weight summed over replicas, and combines the terms with `loss_weights`.
          metrics: {name: (sum, weight)}, shown but not trained on. May be missing.
          per_example: {name: float32 [batch]}. May be missing.
        """
        raise NotImplementedError(f'{type(self).__name__}.ComputeLoss')

    def Decode(self, batch: NestedMap, others: Sequence[BaseTask] = ()) -> NestedMap:
        """Hypotheses for a batch: tensors with the rows of the batch as first axis.

        Args:
          batch: what the experiment's input yields; targets may be missing.
          others: tasks of the same Params with other checkpoints, to decode with as an ensemble.
        """
        raise NotImplementedError(f'{type(self).__name__} cannot decode.')

    def Summaries(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """Pictures and sounds for TensorBoard, computed only when asked for.

        Returns:
          {name: picture or sound}; a picture is float32 [batch, height, width] of values in
          [0, 1], a sound is NestedMap(
            waveform: float32 [batch, samples], in [-1, 1].
            num_samples: int32 [batch], how many of them count.
            sample_rate: int32 [batch], in hertz).
        """
        return NestedMap()

    # On the host.

    def DataFiles(self) -> list[str]:
        """Names of data files that `PrepareDecode` reads, which a run keeps copies of."""
        return []

    def PrepareDecode(self, inputs: Any) -> None:
        """Makes what `Decode` needs from the host; called once, before `Decode` is traced.

        Called in the scope of the strategy, of the first task of an ensemble only.

        Args:
          inputs: the input whose batches will be decoded; `inputs.tokenizer` knows its tokens.

        Raises:
          hyperparams.ConfigError: if something is missing or does not fit.
        """

    def CreateDecoderMetrics(self) -> dict[str, BaseMetric]:
        """{name: metric} for one pass over a dataset."""
        return {}

    def PostProcessDecodeOut(
        self, decoded: NestedMap, inputs: Any, metrics: Optional[Mapping[str, BaseMetric]]
    ) -> list[dict[str, Any]]:
        """Turns one decoded batch into records and updates the metrics.

        Args:
          decoded: what `Decode` returned, as numpy arrays without fill rows, with `id`, int64
            [rows], the ids of the examples.
          inputs: the input that the batch came from: `inputs.Strings(id)` is the text of an
            example, `inputs.tokenizer` turns ids into text.
          metrics: from `CreateDecoderMetrics`; None if there are no references.

        Returns:
          A JSON-able record for each row: id, source, reference (if known), hypotheses, scores.
        """
        raise NotImplementedError(f'{type(self).__name__}.PostProcessDecodeOut')


def DefineTokens(p: hyperparams.Params, vocabulary: bool = True) -> None:
    """Defines what a task that writes tokens knows of them: vocab_size, bos_id, eos_id.

    Args:
      p: Params of the task.
      vocabulary: whether the task itself owns the size of the vocabulary.
    """
    if vocabulary:
        p.Define('vocab_size', REQUIRED, 'Number of tokens, of all languages.', type=int)
    p.Define('bos_id', 1, 'Id of <s>, the token in front of every text.')
    p.Define('eos_id', 2, 'Id of </s>, the token behind it.')


def TokenLoss(out: NestedMap) -> NestedMap:
    """What `BaseTask.ComputeLoss` returns for tokens that are to be guessed.

    Args:
      out: of a `softmax.SoftmaxLoss`.

    Returns:
      The term `loss`; the metrics `log_pplx`, a mean over tokens, without label smoothing, and
      `fraction_of_correct_next_step_preds`; the loss of each example.
    """
    return NestedMap(
        terms={'loss': (out.loss_sum, out.weight_sum)},
        metrics={
            'log_pplx': (out.log_pplx_sum, out.weight_sum),
            'fraction_of_correct_next_step_preds': (out.correct_sum, out.weight_sum),
        },
        per_example={'loss': out.per_example_loss},
    )


def TrainParams() -> hyperparams.Params:
    """`task.train`."""
    p = hyperparams.Params()
    free: dict[str, Any] = {'resume': 'free'}
    p.Define('max_steps', 4_000_000, 'Stop after this many steps (global batches).', **free)
    p.Define('max_epochs', 0, 'Stop after this many epochs of the data; 0 for no limit.', **free)
    p.Define('learning_rate', 1e-3, 'Factor of the schedule.')
    p.Define('lr_schedule', schedules.Constant.Params(), 'Learning rate as a function of updates.')
    p.Define('optimizer', optimizers.Adam.Params(), 'The optimizer.')
    p.Define('clip_gradient_norm_to_value', 0.0, 'Largest global gradient norm; 0 for no limit.')
    p.Define('clip_gradient_value', 0.0, 'Largest absolute gradient entry; 0 for no limit.')
    p.Define('l2_regularizer_weight', 0.0, 'Factor of sum(w^2) / 2 in the loss.')
    p.Define('l1_regularizer_weight', 0.0, 'Factor of sum(|w|) in the loss.')
    p.Define('regularizer_filter', '.*', 'Regex (search) of variable paths that L1, L2 apply to.')
    p.Define('bprop_variable_filter', '.*', 'Regex (search) of variable paths to train.')
    p.Define('bprop_variable_exclusion', '', "Regex of those not to train; '' for none.")
    p.Define(
        'learners',
        [],
        'Groups of variables with terms of the loss, optimizer and schedule of their own. '
        'Empty: one group, described by the params above.',
        bound=variable_group.VariableGroup,
    )
    p.Define('accumulation', 1, 'Micro-batches that a step is computed in, to save memory.')
    p.Define('ema_decay', 0.0, 'Decay of the moving average of the variables; 0 for none.')
    p.Define('vn_std', 0.0, 'Standard deviation of variational noise, if vn.global_vn.')
    p.Define('vn_start_step', 0, 'First step with variational noise.')
    p.Define(
        'precision',
        'auto',
        'Type of the computation: mixed_float16 on a GPU, mixed_bfloat16 on a CPU that has it.',
        choices=('auto', 'float32', 'mixed_bfloat16', 'mixed_float16'),
    )
    p.Define('loss_scale', loss_scale.LossScale.Params(), 'Loss scaling, for mixed_float16.')
    p.Define('communication', _CommunicationParams(), 'Between replicas.')
    p.Define(
        'on_non_finite',
        'skip',
        'What a loss or gradients that are not finite do to the step: skip it, or stop the run. '
        'What a smaller loss scale can answer is skipped in any case.',
        choices=('skip', 'stop'),
        **free,
    )
    p.Define(
        'max_skipped_in_a_row',
        20,
        'Stop after more than this many steps in a row without an update.',
        **free,
    )
    p.Define('deterministic_ops', False, 'Whether TensorFlow must run ops in a fixed order.')
    p.Define('jit_compile', False, 'Whether XLA compiles the step; every shape is a new compile.')
    p.Define('init_from', '', "Checkpoint, or run's folder, to start from; '' for none.")
    p.Define(
        'init_from_rules',
        [],
        '(regex, replacement) pairs, applied to a variable path to get its name in the '
        'checkpoint; the first that matches the whole path counts.',
    )
    p.Define(
        'init_from_missing_ok',
        [],
        'Regexes of variable paths that may be missing in init_from; they start as new.',
    )
    p.Define(
        'init_from_tokens',
        'same',
        "Whether init_from's run must have the same vocabulary, or what belongs to a token is "
        'taken by its text: that of tokens in both runs, the others start as new.',
        choices=('same', 'by_text'),
    )
    p.Define('save_interval_steps', 1000, 'Steps between checkpoints.', **free)
    p.Define('save_max_to_keep', 5, 'How many of the last checkpoints to keep.', **free)
    p.Define(
        'save_keep_checkpoint_every_n_hours', 0.0, 'Keep one for good this often; 0: none.', **free
    )
    p.Define('summary_interval_steps', 100, 'Steps between lines of metrics.', **free)
    p.Define(
        'watchdog_seconds',
        1800.0,
        'Without a finished step for so long, the trainer shows all stacks and ends; five times '
        'as long for the first; 0 for never.',
        **free,
    )
    p.Define(
        'early_stop_window',
        0,
        'Stop when eval.best_metric has not improved for this many steps; 0 for never.',
        **free,
    )
    return p


def EvalParams() -> hyperparams.Params:
    """`task.eval`."""
    p = hyperparams.Params()
    free: dict[str, Any] = {'resume': 'free'}
    p.Define('samples_per_summary', 0, 'Examples that the evaler scores; 0 for all.', **free)
    p.Define('decoder_samples_per_summary', 0, 'Examples the decoder decodes; 0: all.', **free)
    p.Define('interval_steps', 0, 'Steps between passes of trainer --eval; 0: each save.', **free)
    p.Define(
        'best_metric',
        'eval_dev/log_pplx',
        "What best/ is chosen by: a job's folder and a metric in it.",
        **free,
    )
    p.Define(
        'best_mode',
        'auto',
        'Whether a small or a large one is good; auto: as the metric itself says.',
        choices=('auto', 'min', 'max'),
        **free,
    )
    p.Define(
        'all_checkpoints', False, 'Whether the trainer waits until each has been scored.', **free
    )
    return p


def _CommunicationParams() -> hyperparams.Params:
    """`task.train.communication`, with the defaults of tf.distribute."""
    p = hyperparams.Params()
    free: dict[str, Any] = {'resume': 'free'}
    p.Define(
        'implementation',
        'default',
        "Of sums over replicas: TensorFlow's choice, its ring, or NCCL, which needs GPUs.",
        choices=('default', 'ring', 'nccl'),
        **free,
    )
    p.Define('bytes_per_pack', 0, 'Gradients that travel together; 0: all of a step.', **free)
    p.Define(
        'timeout_seconds',
        0.0,
        'Of one exchange of several workers, at the price of a thread each; 0 for none.',
        **free,
    )
    p.Define('float16_gradients', False, 'Whether gradients travel as float16, scaled to fit.')
    return p


def _VariationalNoiseParams() -> hyperparams.Params:
    p = hyperparams.Params()
    p.Define('global_vn', False, 'Whether train.vn_std applies, to all trainable variables.')
    return p
