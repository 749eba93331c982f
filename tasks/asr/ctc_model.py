"""A speech recognizer whose frames say what is heard in them (Graves et al., 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import decoding, hyperparams, layers
from lingvo_lite.decoding.ctc import alignment
from lingvo_lite.decoding.language_models import fusion_params
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.nested_map import NestedMap

from . import recognizer


class CtcModel(recognizer.Recognizer):
    """Front end, encoder, and a token or the blank (id 0, which is padding in texts) a frame.

    Any layer is an encoder that has the params `input_dim`, a property `output_dim` and
    FProp(x [batch, time, input_dim], paddings [batch, time]) -> (y, its paddings). Where it also
    has a property `time_stride`, the frames of its input for each of its output, and the front end
    a property `step_s`, the seconds from frame to frame, words get time stamps.

    batch:
      source.waveform: float32 [batch, samples], in [-1, 1]; source.num_samples: int32 [batch].
      target.ids: [batch, time], <s> and the tokens; target.paddings: [batch, time].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('vocab_size', REQUIRED, 'Number of tokens.', type=int)
        p.Define('encoder', layers.DenseBlocks.Params(), 'Encoder.', bound=layers.BaseLayer)
        p.Define('logits', layers.Linear.Params(), 'From the encoder to the tokens.')
        p.Define('search', decoding.CtcSearch.Params(), 'How texts are searched.', resume='free')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        if fusion_params.adds(p.fusion) and p.search.method == 'greedy':
            what = (
                'a greedy search over CTC frames asks no language model and counts no words. Set '
                'search.method=beam.'
            )
            raise hyperparams.Fail(p, what, 'fusion.word_bonus' if not p.fusion.lm else 'fusion.lm')

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateChild('encoder', layers.handed(p, 'encoder', input_dim=self.frontend.output_dim))
        dims = {'input_dim': self.encoder.output_dim, 'output_dim': p.vocab_size}
        self.CreateChild('logits', layers.handed(p, 'logits', **dims)).MarkTokens(w=1, b=0)
        self.CreateChild('loss', layers.CtcLoss.Params())
        self._search = p.search.Instantiate()

    @property
    def frame_s(self) -> Optional[float]:
        """Seconds from one frame of the encoder's output to the next; None if it is not known."""
        step_s = getattr(self.frontend, 'step_s', None)
        stride = getattr(self.encoder, 'time_stride', None)
        return step_s * stride if step_s and stride else None

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
        """Texts: ids, lengths, scores (see `search.CtcSearch.Decode`).

        With `others`, the probabilities of each frame are the mean of those of all models.

        Where time stamps are known, also
          first, last: int32 [batch, tokens], the frames in which each token of the best hypothesis
            begins and ends (see `alignment.align`).
          duration_s: float32 [batch], length of the utterance in seconds.
        """
        fusion = self._Fusion()
        predictions = self.ComputePredictions(batch)
        scores = tf.nn.log_softmax(predictions.logits)
        if others:
            found = [tf.nn.log_softmax(each.ComputePredictions(batch).logits) for each in others]
            scores = tf.reduce_logsumexp(tf.stack([scores, *found]), axis=0)
            scores = tf.nn.log_softmax(scores)  # of a sum, a mean
        hyps = self._search.Decode(scores, predictions.paddings, fusion.lm if fusion else None)
        if self.frame_s is not None:
            ids, lengths = hyps.ids[:, 0], hyps.lengths[:, 0]
            blank = self.params.search.blank_id
            times = alignment.align(scores, predictions.paddings, ids, lengths, blank)
            hyps.first, hyps.last = times.first, times.last
            samples = tf.cast(batch.source.num_samples, tf.float32)
            hyps.duration_s = samples / self.params.frontend.sample_rate
        return hyps

    def Summaries(self, predictions: NestedMap, batch: NestedMap) -> NestedMap:
        """The features, low ones at the bottom, and the sound."""
        del predictions
        features = recognizer.picture(*self._Features(batch))
        return NestedMap(features=features, audio=self._Sound(batch))

    def PostProcessDecodeOut(self, decoded: NestedMap, inputs: Any, metrics: Any) -> list[dict]:
        """Records with `words` of the best hypothesis: {word, start, end}, in seconds."""
        records = super().PostProcessDecodeOut(decoded, inputs, metrics)
        if 'first' in decoded:
            tokens = inputs.tokenizer.Tokens()
            for row, record in enumerate(records):
                record['words'] = self._Words(decoded.Transform(lambda x, row=row: x[row]), tokens)
        return records

    def _Words(self, decoded: NestedMap, tokens: Sequence[str]) -> list[dict[str, Any]]:
        """The words of one row of what was decoded."""
        ids = decoded.ids[0, : decoded.lengths[0]]
        # A model may have more tokens than the tokenizer.
        texts = [tokens[i] if i < len(tokens) else '\ufffd' for i in ids]
        found = alignment.words(texts, decoded.first, decoded.last, self.frame_s)
        end = float(decoded.duration_s)  # within the last frame
        return [
            {'word': w.text, 'start': round(w.start_s, 3), 'end': round(min(w.end_s, end), 3)}
            for w in found
        ]
