"""A speech recognizer that listens, attends and spells (Chan et al., 2016, arXiv 1508.01211)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams, task
from lingvo_lite.decoding import hypotheses, scorers, search
from lingvo_lite.layers import base, frontend, spec_augment
from lingvo_lite.metrics import wer
from lingvo_lite.nested_map import NestedMap

from . import decoder, encoder


class AsrModel(task.BaseTask):
    """Front end, encoder, and a decoder that attends to what the encoder returns.

    batch:
      source.waveform: float32 [batch, samples], in [-1, 1]; source.num_samples: int32 [batch].
      target.ids: [batch, time], <s> and the tokens; target.labels: the tokens and </s>.
      target.weights: [batch, time].
    """

    @classmethod
    def Params(cls) -> Any:
        p = super().Params()
        p.Define(
            'frontend',
            frontend.MelAsrFrontend.Params().Set(normalization='per_feature'),
            'Waveform to features.',
            bound=base.BaseLayer,
        )
        p.Define('spec_augment', spec_augment.SpectrumAugmenter.Params(), 'Masks on the features.')
        p.Define('encoder', encoder.AsrEncoder.Params(), 'Encoder.', bound=base.BaseLayer)
        p.Define('decoder', decoder.AsrDecoder.Params(), 'Decoder.', bound=base.BaseLayer)
        p.Define('bos_id', 1, 'Id of <s>, the token in front of every text.')
        p.Define('eos_id', 2, 'Id of </s>, the token behind it.')
        p.Define('search', search.Search.Params(), 'How texts are searched.')
        return p

    def __init__(self, params: Any):
        super().__init__(params)
        p = self.params
        self.CreateChild('frontend', p.frontend)
        self.CreateChild('spec_augment', p.spec_augment)
        self.CreateChild('encoder', p.encoder)
        self.CreateChild('decoder', p.decoder)
        if p.decoder.source_dim != self.encoder.output_dim:
            raise hyperparams.Fail(
                p.decoder,
                f'source_dim={p.decoder.source_dim} is not what the encoder returns: '
                f'{self.encoder.output_dim}.',
                'source_dim',
            )
        self._search = p.search.Instantiate()

    def ComputePredictions(self, batch: NestedMap) -> NestedMap:
        """Decoder outputs for the known target: x [batch, time, dim]."""
        return NestedMap(x=self.decoder(batch.target.ids, *self.Encode(batch)))

    def ComputeLoss(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """Cross-entropy, a mean over target tokens."""
        target = batch.target
        out = self.decoder.softmax(predictions.x, target.labels, target.weights)
        return NestedMap(
            terms={'loss': (out.loss_sum, out.weight_sum)},
            metrics={
                'log_pplx': (out.log_pplx_sum, out.weight_sum),
                'fraction_of_correct_next_step_preds': (out.correct_sum, out.weight_sum),
            },
            per_example={'loss': out.per_example_loss},
        )

    def Decode(self, batch: NestedMap, others: Sequence[AsrModel] = ()) -> NestedMap:
        """Texts: ids, lengths, scores (see `search.Search.Decode`)."""
        scorer = self.Scorer(batch)
        limits = self._search.MaxLengths(scorer.source_lengths)
        if others:
            scorer = scorers.Ensemble([scorer, *(other.Scorer(batch) for other in others)])
        with contextlib.ExitStack() as stack:
            for each in (self, *others):
                stack.enter_context(base.Hoisted(each))
            return self._search.Decode(scorer, limits, example_ids=batch.id)

    def Scorer(self, batch: NestedMap) -> _Scorer:
        """What the search asks for next tokens."""
        return _Scorer(self, batch)

    def Summaries(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """The features, low ones at the bottom, and the attention to the encoder's frames."""
        del predictions
        features, paddings = self._Features(batch)
        _, attention = self.decoder(
            batch.target.ids, *self.encoder(features, paddings), return_attention=True
        )
        return NestedMap(attention=attention, features=picture(features, paddings))

    def CreateDecoderMetrics(self) -> dict[str, Any]:
        return {'wer': wer.Wer(), 'cer': wer.Cer()}

    def PostProcessDecodeOut(self, decoded: NestedMap, inputs: Any, metrics: Any) -> list[dict]:
        return scored_records(decoded, inputs, metrics)

    def Encode(self, batch: NestedMap) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded source, [batch, s, dim], and its paddings, [batch, s]."""
        return self.encoder(*self._Features(batch))

    def _Features(self, batch: NestedMap) -> tuple[tf.Tensor, tf.Tensor]:
        """[batch, frames, features] and [batch, frames]; with masks in training."""
        x, paddings = self.frontend(batch.source.waveform, batch.source.num_samples)
        return self.spec_augment(x, paddings), paddings


def scored_records(decoded: NestedMap, inputs: Any, metrics: Any) -> list[dict]:
    """The records of `hypotheses.records`, with the edits to the reference by each metric."""
    records = hypotheses.records(decoded, inputs)
    for record in records:
        if 'reference' in record:
            for name, metric in (metrics or {}).items():
                edits = metric.Update(hypotheses.best(record), record['reference'])
                record[f'{name}_edits'] = edits._asdict()
    return records


class _Scorer(scorers.Scorer):
    """The decoder, step by step.

    Attributes:
      source_lengths: float32 [batch], frames that the encoder returns.
    """

    def __init__(self, model: AsrModel, batch: NestedMap):
        self._model = model
        self._encoded = model.Encode(batch)
        paddings = self._encoded[1]
        self.source_lengths = tf.reduce_sum(1.0 - paddings, axis=1)
        self.bos_id = model.params.bos_id
        self.eos_id = model.params.eos_id
        # The search carries attention along, so it gets it only if it asks for it.
        if model.params.search.coverage_penalty:
            self.source_paddings = paddings

    def Init(self) -> NestedMap:
        return self._model.decoder.InitStates(*self._encoded)

    def Step(self, ids: tf.Tensor, position: tf.Tensor, state: NestedMap) -> Any:
        del position
        model = self._model.decoder
        x, state, attention = model.ExtendStep(ids, state)
        return model.softmax.Logits(x), state, None if self.source_paddings is None else attention


def picture(features: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
    """Features as a picture: the least of an example is 0, the largest 1; time runs to the right.

    Args:
      features: [batch, frames, features].
      paddings: [batch, frames]; drawn as 0.

    Returns:
      float32 [batch, features, frames], the first feature at the bottom.
    """
    real = (paddings < 0.5)[:, :, tf.newaxis]
    x = tf.cast(features, tf.float32)
    low = tf.reduce_min(tf.where(real, x, x.dtype.max), axis=[1, 2], keepdims=True)
    high = tf.reduce_max(tf.where(real, x, x.dtype.min), axis=[1, 2], keepdims=True)
    x = tf.where(real, tf.math.divide_no_nan(x - low, high - low), 0.0)
    # [batch, frames, features] -> [batch, features, frames]
    return tf.reverse(tf.transpose(x, [0, 2, 1]), axis=[1])
