"""A speech recognizer that listens, attends and spells (Chan et al., 2016, arXiv 1508.01211)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lingvo_lite import decoding, hyperparams, layers, task
from lingvo_lite.hyperparams import Self
from lingvo_lite.nested_map import NestedMap

from . import decoder, encoder, recognizer


class AsrModel(recognizer.Recognizer):
    """Front end, encoder, and a decoder that attends to what the encoder returns.

    With ctc_weight = w above 0 the encoder is trained to say each token in some frame too:

        loss = (1 - w) (-log p_attention(text)) + w (-log p_ctc(text))

    Source: Kim et al., arXiv 1609.06773; Watanabe et al., 2017. The search does not use it.

    batch:
      source.waveform: float32 [batch, samples], in [-1, 1]; source.num_samples: int32 [batch].
      target.ids: [batch, time], <s> and the tokens; target.labels: the tokens and </s>.
      target.weights: [batch, time].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('encoder', encoder.AsrEncoder.Params(), 'Encoder.', bound=layers.BaseLayer)
        p.Define('decoder', decoder.AsrDecoder.Params(), 'Decoder.', bound=layers.BaseLayer)
        p.Define('ctc_weight', 0.0, 'Share of the CTC loss, in [0, 1); 0 for none.')
        task.DefineTokens(p, vocabulary=False)
        p.Define('search', decoding.Search.Params(), 'How texts are searched.', resume='free')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.RequireRange(
            p, 'ctc_weight', at_least=0, below=1, note='for CTC alone use CtcModel'
        )

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateChild('encoder', p.encoder)
        self.CreateChild('decoder', p.decoder)
        dim = self.encoder.output_dim
        if p.decoder.source_dim != dim:
            raise hyperparams.Fail(
                p.decoder,
                f'source_dim={p.decoder.source_dim} is not what the encoder returns: {dim}.',
                'source_dim',
            )
        if p.ctc_weight:
            dims = {'input_dim': dim, 'output_dim': p.decoder.vocab_size}
            logits = self.CreateChild('ctc_logits', layers.Linear.Params().Set(**dims))
            logits.MarkTokens(w=1, b=0)
            self.CreateChild('ctc_loss', layers.CtcLoss.Params())
        self._search = p.search.Instantiate()

    def ComputePredictions(self, batch: NestedMap) -> NestedMap:
        """Decoder outputs for the known target: x [batch, time, dim].

        With ctc_weight also ctc_logits, float32 [batch, s, vocab], and ctc_paddings, [batch, s].
        """
        encoded, paddings = self.Encode(batch)
        predictions = NestedMap(x=self.decoder(batch.target.ids, encoded, paddings))
        if self.params.ctc_weight:
            predictions.ctc_logits = tf.cast(self.ctc_logits(encoded), tf.float32)
            predictions.ctc_paddings = paddings
        return predictions

    def ComputeLoss(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """Cross-entropy, a mean over target tokens; with ctc_weight see `_JointLoss`."""
        target = batch.target
        out = self.decoder.softmax(predictions.x, target.labels, target.weights)
        loss = task.TokenLoss(out)
        return self._JointLoss(loss, predictions, target) if self.params.ctc_weight else loss

    def Decode(self, batch: NestedMap, others: Sequence[AsrModel] = ()) -> NestedMap:
        """Texts: ids, lengths, scores (see `search.Search.Decode`)."""
        fusion = self._Fusion()
        scorer = self.Scorer(batch)
        limits = self._search.MaxLengths(scorer.source_lengths)
        if others:
            scorer = decoding.Ensemble([scorer, *(other.Scorer(batch) for other in others)])
        if fusion is not None:
            scorer = fusion.Around(scorer)
        with contextlib.ExitStack() as stack:
            for each in (self, *others):
                stack.enter_context(layers.Hoisted(each))
            return self._search.Decode(scorer, limits, example_ids=batch.id)

    def Scorer(self, batch: NestedMap) -> _Scorer:
        """What the search asks for next tokens."""
        return _Scorer(self, batch)

    def Summaries(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """The features, low ones at the bottom, the attention to encoder frames, and the sound."""
        del predictions
        features, paddings = self._Features(batch)
        _, attention = self.decoder(
            batch.target.ids, *self.encoder(features, paddings), return_attention=True
        )
        return NestedMap(
            attention=attention,
            features=recognizer.picture(features, paddings),
            audio=self._Sound(batch),
        )

    def Encode(self, batch: NestedMap) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded source, [batch, s, dim], and its paddings, [batch, s]."""
        return self.encoder(*self._Features(batch))

    def _JointLoss(self, loss: NestedMap, predictions: NestedMap, target: NestedMap) -> NestedMap:
        """The loss with its share of CTC; both are means over target tokens.

        So that, as in the paper, the two parts of an utterance are added up whatever its length:
        the CTC loss is a sum over utterances too, divided by the tokens of those that count.

        terms:
          attention, ctc: multiplied by their shares.
        metrics:
          ctc_loss: not multiplied.
          too_long: share of utterances whose text does not fit into the encoder's frames. They are
            trained on by attention alone.
        """
        w = self.params.ctc_weight
        # <s> a b and a b </s> are one row each: without its ends the text is a b.
        labels, padded = target.ids[:, 1:], 1.0 - target.weights[:, 1:]
        out = self.ctc_loss(predictions.ctc_logits, predictions.ctc_paddings, labels, padded)
        tokens = tf.reduce_sum(target.weights, axis=1) * out.per_example_weight
        weight = tf.reduce_sum(tokens)
        total, total_weight = loss.terms['loss']
        utterances = out.weight_sum + out.too_long
        return NestedMap(
            terms={
                'attention': ((1.0 - w) * total, total_weight),
                'ctc': (w * out.loss_sum, weight),
            },
            metrics={
                **loss.metrics,
                'ctc_loss': (out.loss_sum, weight),
                'too_long': (out.too_long, utterances),
            },
            per_example={'loss': (1.0 - w) * loss.per_example['loss'] + w * out.per_example_loss},
        )


class _Scorer(decoding.DecoderScorer):
    """The decoder, step by step.

    Attributes:
      source_lengths: float32 [batch], frames that the encoder returns.
    """

    def __init__(self, model: AsrModel, batch: NestedMap):
        self._model = model
        self._encoded = model.Encode(batch)
        paddings = self._encoded[1]
        super().__init__(model.params, paddings)
        self.source_lengths = tf.reduce_sum(1.0 - paddings, axis=1)

    def Init(self) -> NestedMap:
        return self._model.decoder.InitStates(*self._encoded)

    def Step(self, ids: tf.Tensor, position: tf.Tensor, state: NestedMap) -> Any:
        del position
        model = self._model.decoder
        x, state, attention = model.ExtendStep(ids, state)
        return model.softmax.Logits(x), state, None if self.source_paddings is None else attention
