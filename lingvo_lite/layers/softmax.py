"""Softmax over a vocabulary, and its cross-entropy."""

from __future__ import annotations

from typing import Callable, Optional, Union

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base
from lingvo_lite.layers.embedding import Embedding, padded_rows
from lingvo_lite.nested_map import NestedMap

_IMPOSSIBLE = -1e9


class SoftmaxLoss(base.BaseLayer):
    """p(y | x) = softmax(x w), and the cross-entropy of labels under it.

    w is this layer's own, [model_dim, vocab_size], or the transposed table of an embedding
    (Press and Wolf, arXiv 1608.05859):

        self.CreateChild('softmax', p.softmax, embedding=self.embedding)

    The vocabulary is padded to a multiple of 8; the logits of the padding are -1e9.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('vocab_size', REQUIRED, 'Number of tokens.', type=int)
        p.Define('model_dim', REQUIRED, 'Size of the last axis of the input.', type=int)
        p.Define(
            'label_smoothing',
            0.0,
            'Share of the target probability that is spread evenly over all tokens (Szegedy et '
            'al., arXiv 1512.00567, section 7), in [0, 1).',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'label_smoothing', at_least=0, below=1)

    def __init__(self, params: hyperparams.Params, embedding: Optional[Embedding] = None):
        super().__init__(params)
        p = self.params
        self._padded = padded_rows(p.vocab_size)
        self._tied = embedding is not None
        if embedding is None:
            self.CreateVariable('w', base.Weight([p.model_dim, self._padded], tokens=1))
            return
        for key in ('vocab_size', 'model_dim'):
            if embedding.params.Get(key) != p.Get(key):
                raise hyperparams.Fail(
                    p,
                    f'{key}={p.Get(key)} is not that of the shared embedding, '
                    f'{embedding.params.Get(key)}.',
                    key,
                )
        self.ShareChild('embedding', embedding)

    def FProp(self, x: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> NestedMap:
        """The loss.

        Args:
          x: [batch, time, model_dim].
          labels: int [batch, time], in [0, vocab_size).
          weights: [batch, time], 0.0 where there is no label.

        Returns:
          All float32, in nats:
            loss_sum: scalar, cross-entropy with label smoothing, summed with weights.
            log_pplx_sum: scalar, -log p(label), summed with weights.
            correct_sum: scalar, weight of the labels that are the most probable token.
            weight_sum: scalar, the sum of weights.
            per_example_loss: [batch], as loss_sum for each row.
            per_example_weight: [batch], as weight_sum for each row.
        """
        weights = tf.cast(weights, tf.float32)
        shape = tf.shape(labels)
        # [batch * time, padded]
        logits = self._Product(tf.reshape(x, [-1, self.params.model_dim]))
        loss, log_pplx, correct = cross_entropy(
            logits,
            tf.reshape(labels, [-1]),
            self.params.vocab_size,
            self.params.label_smoothing,
        )
        loss = tf.reshape(loss, shape) * weights
        per_example = tf.reduce_sum(loss, axis=1)
        per_example_weight = tf.reduce_sum(weights, axis=1)
        return NestedMap(
            loss_sum=tf.reduce_sum(per_example),
            log_pplx_sum=tf.reduce_sum(tf.reshape(log_pplx, shape) * weights),
            correct_sum=tf.reduce_sum(tf.reshape(correct, shape) * weights),
            weight_sum=tf.reduce_sum(per_example_weight),
            per_example_loss=per_example,
            per_example_weight=per_example_weight,
        )

    def Logits(self, x: tf.Tensor) -> tf.Tensor:
        """x: [rows, model_dim] -> float32 [rows, padded]; -1e9 where there is no token."""
        exists = _Exists(self._padded, self.params.vocab_size)
        return _Masked(tf.cast(self._Product(x), tf.float32), exists)

    def LoopValues(self) -> dict[str, tf.Tensor]:
        """Besides theta, the product's right side, which is slower when it is transposed."""
        if not self._tied:
            return super().LoopValues()
        return {'w': tf.transpose(self.embedding.theta.table)}

    def _Product(self, x: tf.Tensor) -> tf.Tensor:
        """x: [rows, model_dim] -> x w: [rows, padded], in the compute type."""
        x = tf.cast(x, self.dtype)
        w = base.LoopValue(self, 'w') if self._tied else self.theta.w
        if w is None:
            return tf.matmul(x, self.embedding.theta.table, transpose_b=True)
        return tf.matmul(x, w)


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, vocab_size: int, label_smoothing: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cross-entropy of q = (1 - e) onehot(label) + e / vocab_size under softmax(logits).

    With z = log sum_c exp(x_c):   -sum_c q_c log p_c = z - (1 - e) x_label - e mean_c(x_c).

    The backward pass uses the softmax of the forward pass: its gradient is p - q. Logits are cast
    to float32 in here, so that no copy of them is kept.

    Args:
      logits: [rows, padded]; what stands behind vocab_size does not count.
      labels: int [rows].
      vocab_size: Python int.
      label_smoothing: e.

    Returns:
      float32 [rows] each, the first of which has a gradient: the cross-entropy; -log p(label);
      1.0 where the label has the largest logit, and of several the lowest id.
    """
    e = label_smoothing
    exists = _Exists(logits.shape[-1], vocab_size)

    @tf.custom_gradient
    def CrossEntropy(
        logits: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], Callable[..., tf.Tensor]]:
        x = _Masked(tf.cast(logits, tf.float32), exists)
        p = tf.nn.softmax(x)
        # Of equal logits the first, which a search would take too.
        best = tf.argmax(x, axis=-1, output_type=labels.dtype)
        rows = tf.range(tf.shape(x)[0], dtype=labels.dtype)
        at_best = tf.stack([rows, best], axis=1)
        # max(p) is at least 1 / padded, so its logarithm is exact where that of p(label) is not.
        z = tf.gather_nd(x, at_best) - tf.math.log(tf.gather_nd(p, at_best))
        at_label = tf.stack([rows, labels], axis=1)
        x_label = tf.gather_nd(x, at_label)
        log_pplx = z - x_label
        loss = log_pplx
        if e:
            real = x if x.shape[-1] == vocab_size else x[:, :vocab_size]
            loss = z - (1.0 - e) * x_label - e * tf.reduce_mean(real, axis=-1)
        correct = tf.cast(labels == best, tf.float32)

        def Gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
            others = p - tf.where(exists, e / vocab_size, 0.0) if e else p
            gradient = tf.tensor_scatter_nd_sub(
                others * upstream[:, tf.newaxis], at_label, (1.0 - e) * upstream
            )
            return tf.cast(gradient, logits.dtype)

        return (loss, log_pplx, correct), Gradient

    return CrossEntropy(logits)


def _Exists(padded: int, vocab_size: int) -> Union[bool, tf.Tensor]:
    """Which columns are tokens: True if all are, otherwise bool [padded]."""
    return True if padded == vocab_size else tf.range(padded) < vocab_size


def _Masked(logits: tf.Tensor, exists: Union[bool, tf.Tensor]) -> tf.Tensor:
    return logits if exists is True else tf.where(exists, logits, _IMPOSSIBLE)
