"""What all recognizers share: features, a language model to listen to, records, summaries."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from lingvo_lite import decoding, hyperparams, layers, metrics, task
from lingvo_lite.decoding.language_models import fusion_params
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import run_files
from lingvo_lite.nested_map import NestedMap


class Recognizer(task.BaseTask):
    """A task that hears: front end, SpecAugment, and shallow fusion in its search.

    batch:
      source.waveform: float32 [batch, samples], in [-1, 1]; source.num_samples: int32 [batch].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define(
            'frontend',
            layers.MelAsrFrontend.Params().Set(normalization='per_feature'),
            'Waveform to features.',
            bound=layers.BaseLayer,
        )
        p.Define('spec_augment', layers.SpectrumAugmenter.Params(), 'Masks on the features.')
        p.Define(
            'fusion',
            decoding.LmFusion.Params(),
            'The language model that the search listens to.',
            resume='free',
        )
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self.CreateChild('frontend', self.params.frontend)
        self.CreateChild('spec_augment', self.params.spec_augment)
        self._fusion: Optional[decoding.LmFusion] = None

    def DataFiles(self) -> list[str]:
        """The file of the language model, if it is one in a file."""
        p = self.params.fusion
        return [p.lm.file] if fusion_params.adds(p) and p.lm is not None and 'file' in p.lm else []

    def PrepareDecode(self, inputs: Any) -> None:
        """Reads the language model, in the tokens of the input."""
        if not fusion_params.adds(self.params.fusion):
            return
        tokenizer = inputs.tokenizer
        vocabulary = decoding.Vocabulary(
            tokenizer.Tokens(), tokenizer.bos_id, tokenizer.eos_id, tokenizer.Fingerprint()
        )
        self._fusion = self.params.fusion.Instantiate(
            vocabulary=vocabulary, find_data=run_files.FindData
        )

    def CreateDecoderMetrics(self) -> dict[str, Any]:
        return {'wer': metrics.Wer(), 'cer': metrics.Cer()}

    def PostProcessDecodeOut(self, decoded: NestedMap, inputs: Any, metrics: Any) -> list[dict]:
        """The records of `hypotheses.records`, with the edits to the reference by each metric."""
        records = decoding.records(decoded, inputs)
        for record in records:
            if 'reference' in record:
                for name, metric in (metrics or {}).items():
                    edits = metric.Update(decoding.best(record), record['reference'])
                    record[f'{name}_edits'] = edits._asdict()
        return records

    def _Features(self, batch: NestedMap) -> tuple[tf.Tensor, tf.Tensor]:
        """[batch, frames, features] and [batch, frames]; with masks in training."""
        x, paddings = self.frontend(batch.source.waveform, batch.source.num_samples)
        return self.spec_augment(x, paddings), paddings

    def _Fusion(self) -> Optional[decoding.LmFusion]:
        """What the search listens to; None for nothing.

        Raises:
          RuntimeError: if there is something, and nobody has told in which tokens.
        """
        if self._fusion is None and fusion_params.adds(self.params.fusion):
            raise RuntimeError(
                'task.fusion needs the tokens: call task.PrepareDecode(inputs) before task.Decode.'
            )
        return self._fusion

    def _Sound(self, batch: NestedMap) -> NestedMap:
        """The utterances, for `Summaries`."""
        rate = tf.cast(self.params.frontend.sample_rate, tf.int32)
        return NestedMap(
            waveform=batch.source.waveform,
            num_samples=batch.source.num_samples,
            sample_rate=tf.fill(tf.shape(batch.source.num_samples), rate),
        )


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
