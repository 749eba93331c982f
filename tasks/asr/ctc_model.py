"""A speech recognizer whose frames say what is heard in them (Graves et al., 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lingvo_lite import task
from lingvo_lite.decoding import ctc
from lingvo_lite.hyperparams import REQUIRED
from lingvo_lite.layers import base, ctc_loss, dense_block, frontend, linear, spec_augment
from lingvo_lite.layers.template import handed
from lingvo_lite.metrics import wer
from lingvo_lite.nested_map import NestedMap

from . import model


class CtcModel(task.BaseTask):
    """Front end, encoder, and a token or the blank (id 0, which is padding in texts) a frame.

    Any layer is an encoder that has the params `input_dim`, a property `output_dim` and
    FProp(x [batch, time, input_dim], paddings [batch, time]) -> (y, its paddings).

    batch:
      source.waveform: float32 [batch, samples], in [-1, 1]; source.num_samples: int32 [batch].
      target.ids: [batch, time], <s> and the tokens; target.paddings: [batch, time].
    """

    @classmethod
    def Params(cls) -> Any:
        p = super().Params()
        p.Define('vocab_size', REQUIRED, 'Number of tokens.', type=int)
        p.Define(
            'frontend',
            frontend.MelAsrFrontend.Params().Set(normalization='per_feature'),
            'Waveform to features.',
            bound=base.BaseLayer,
        )
        p.Define('spec_augment', spec_augment.SpectrumAugmenter.Params(), 'Masks on the features.')
        p.Define('encoder', dense_block.DenseBlocks.Params(), 'Encoder.', bound=base.BaseLayer)
        p.Define('logits', linear.Linear.Params(), 'From the encoder to the tokens.')
        p.Define('search', ctc.CtcSearch.Params(), 'How texts are searched.')
        return p

    def __init__(self, params: Any):
        super().__init__(params)
        p = self.params
        self.CreateChild('frontend', p.frontend)
        self.CreateChild('spec_augment', p.spec_augment)
        self.CreateChild('encoder', handed(p, 'encoder', input_dim=self.frontend.output_dim))
        dims = {'input_dim': self.encoder.output_dim, 'output_dim': p.vocab_size}
        self.CreateChild('logits', handed(p, 'logits', **dims))
        self.CreateChild('loss', ctc_loss.CtcLoss.Params())
        self._search = p.search.Instantiate()

    def ComputePredictions(self, batch: NestedMap) -> NestedMap:
        """logits float32 [batch, frames, vocab_size], paddings [batch, frames]."""
        x, paddings = self.encoder(*self._Features(batch))
        return NestedMap(logits=tf.cast(self.logits(x), tf.float32), paddings=paddings)

    def ComputeLoss(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """-log p(text), a mean over utterances, those that are too short for their text left out.

        metrics:
          too_long: share of utterances whose text does not fit into their frames.
          log_pplx: the loss by tokens, to compare data of different lengths.
        """
        # <s> a b </s> in two rows: ids are <s> a b, paddings those of a b </s>.
        labels, padded = batch.target.ids[:, 1:], batch.target.paddings[:, 1:]
        out = self.loss(predictions.logits, predictions.paddings, labels, padded)
        tokens = tf.reduce_sum(1.0 - padded, axis=1)
        utterances = out.weight_sum + out.too_long
        return NestedMap(
            terms={'loss': (out.loss_sum, out.weight_sum)},
            metrics={
                'too_long': (out.too_long, utterances),
                'log_pplx': (out.loss_sum, tf.reduce_sum(tokens * out.per_example_weight)),
            },
            per_example={'loss': out.per_example_loss},
        )

    def Decode(self, batch: NestedMap, others: Sequence[CtcModel] = ()) -> NestedMap:
        """Texts: ids, lengths, scores (see `ctc.CtcSearch.Decode`).

        With `others`, the probabilities of each frame are the mean of those of all models.
        """
        predictions = self.ComputePredictions(batch)
        scores = tf.nn.log_softmax(predictions.logits)
        if others:
            found = [tf.nn.log_softmax(each.ComputePredictions(batch).logits) for each in others]
            # A sum; the search makes probabilities of it.
            scores = tf.reduce_logsumexp(tf.stack([scores, *found]), axis=0)
        return self._search.Decode(scores, predictions.paddings)

    def Summaries(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """The features, low ones at the bottom."""
        del predictions
        return NestedMap(features=model.picture(*self._Features(batch)))

    def CreateDecoderMetrics(self) -> dict[str, Any]:
        return {'wer': wer.Wer(), 'cer': wer.Cer()}

    def PostProcessDecodeOut(self, decoded: NestedMap, inputs: Any, metrics: Any) -> list[dict]:
        return model.scored_records(decoded, inputs, metrics)

    def _Features(self, batch: NestedMap) -> tuple[tf.Tensor, tf.Tensor]:
        """[batch, frames, features] and [batch, frames]; with masks in training."""
        x, paddings = self.frontend(batch.source.waveform, batch.source.num_samples)
        return self.spec_augment(x, paddings), paddings
