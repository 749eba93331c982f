"""A Transformer that translates (Vaswani et al., 2017, arXiv 1706.03762)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import decoding, hyperparams, layers, metrics, task
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.nested_map import NestedMap


class TransformerModel(task.BaseTask):
    """Encoder, decoder, and one embedding that source, target and softmax share.

    batch:
      source.ids, source.paddings: [batch, source_time].
      target.ids: [batch, target_time], <s> and the tokens; target.labels: the tokens and </s>.
      target.paddings, target.weights: [batch, target_time].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        task.DefineTokens(p)
        p.Define('model_dim', REQUIRED, 'Size of the embeddings and of all layers.', type=int)
        p.Define('embedding', layers.Embedding.Params(), 'Token embedding, shared.')
        p.Define('position', layers.Sinusoid.Params(), 'Added to the embeddings.')
        p.Define('input_dropout', layers.Dropout.Params(), 'On the sum of both.')
        p.Define('encoder', layers.TransformerEncoder.Params(), 'Encoder stack.')
        p.Define('decoder', layers.TransformerDecoder.Params(), 'Decoder stack.')
        p.Define('softmax', layers.SoftmaxLoss.Params(), 'Output and loss.')
        p.Define(
            'search', decoding.Search.Params(), 'How translations are searched.', resume='free'
        )
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        dims = {'vocab_size': p.vocab_size, 'model_dim': p.model_dim}
        self.CreateChild('embedding', p.embedding.Copy().Set(**dims))
        self.CreateChild('position', p.position.Copy().Set(model_dim=p.model_dim))
        self.CreateChild('input_dropout', p.input_dropout)
        self.CreateChild('encoder', p.encoder.Copy().Set(model_dim=p.model_dim))
        self.CreateChild('decoder', p.decoder.Copy().Set(model_dim=p.model_dim))
        self.CreateChild('softmax', p.softmax.Copy().Set(**dims), embedding=self.embedding)
        self._search = p.search.Instantiate()

    def ComputePredictions(self, batch: NestedMap) -> NestedMap:
        """Decoder outputs for the known target: x [batch, target_time, model_dim]."""
        source = self.Encode(batch)
        x = self.decoder.FProp(
            self._Embed(batch.target.ids), batch.target.paddings, source, batch.source.paddings
        )
        return NestedMap(x=x)

    def ComputeLoss(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """Cross-entropy, a mean over target tokens."""
        out = self.softmax.FProp(predictions.x, batch.target.labels, batch.target.weights)
        return task.TokenLoss(out)

    def Decode(self, batch: NestedMap, others: Sequence[TransformerModel] = ()) -> NestedMap:
        """Translations: ids, lengths, scores (see `search.Search.Decode`)."""
        scorer = self.Scorer(batch)
        if others:
            scorer = decoding.Ensemble([scorer, *(other.Scorer(batch) for other in others)])
        lengths = tf.reduce_sum(1.0 - batch.source.paddings, axis=1)
        with contextlib.ExitStack() as stack:
            for each in (self, *others):
                stack.enter_context(layers.Hoisted(each))
            limits = self._search.MaxLengths(lengths)
            return self._search.Decode(scorer, limits, example_ids=batch.id)

    def Scorer(self, batch: NestedMap) -> decoding.Scorer:
        """What the search asks for next tokens."""
        return _Scorer(self, batch)

    def Summaries(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """The last layer's attention to the source, the mean over heads."""
        del predictions
        _, attention = self.decoder.FProp(
            self._Embed(batch.target.ids),
            batch.target.paddings,
            self.Encode(batch),
            batch.source.paddings,
            return_attention=True,
        )
        return NestedMap(attention=attention)

    def CreateDecoderMetrics(self) -> dict[str, Any]:
        return {'bleu': metrics.CorpusBleu(), 'chrf': metrics.ChrF()}

    def PostProcessDecodeOut(self, decoded: NestedMap, inputs: Any, metrics: Any) -> list[dict]:
        records = decoding.records(decoded, inputs)
        for record in records:
            if 'reference' in record:
                for metric in (metrics or {}).values():
                    metric.Update(decoding.best(record), record['reference'])
        return records

    def Encode(self, batch: NestedMap) -> tf.Tensor:
        """The encoded source: [batch, source_time, model_dim]."""
        return self.encoder.FProp(self._Embed(batch.source.ids), batch.source.paddings)

    def _Embed(self, ids: tf.Tensor, position: Optional[tf.Tensor] = None) -> tf.Tensor:
        """ids: [batch, time] -> [batch, time, model_dim]; at a step, ids of one position."""
        return self.input_dropout(self.position.FProp(self.embedding.FProp(ids), position))


class _Scorer(decoding.DecoderScorer):
    """The decoder, step by step."""

    def __init__(self, model: TransformerModel, batch: NestedMap):
        super().__init__(model.params, batch.source.paddings)
        self._model = model
        self._batch = batch

    def Init(self) -> NestedMap:
        return self._model.decoder.InitStates(
            self._model.Encode(self._batch), self._batch.source.paddings
        )

    def Step(self, ids: tf.Tensor, position: tf.Tensor, state: NestedMap) -> Any:
        model = self._model
        x = model._Embed(ids[:, None], position)[:, 0]
        if self.source_paddings is None:
            x, state = model.decoder.ExtendStep(x, state)
            return model.softmax.Logits(x), state, None
        x, state, attention = model.decoder.ExtendStep(x, state, return_attention=True)
        return model.softmax.Logits(x), state, attention
