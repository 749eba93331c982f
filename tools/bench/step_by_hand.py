"""A training step in one tf.function, in plain TensorFlow: see `transformer_by_hand`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import transformer_by_hand as by_hand

_LEVELS = 256
_PHILOX = 1  # tf.random.Algorithm.PHILOX


@dataclasses.dataclass(frozen=True)
class Training:
    """How it is trained; as in TransformerModel's Params.

    Attributes:
      rate: of dropout, on the embeddings and on what each part adds.
      smoothing: of labels.
      clip: largest global norm of the gradients.
      beta1, beta2, epsilon: Adam's.
      warmup_steps: of the Transformer schedule.
      keras_adam: whether Keras computes the update; otherwise TensorFlow's fused kernel does.
    """

    rate: float
    smoothing: float
    clip: float
    beta1: float
    beta2: float
    epsilon: float
    warmup_steps: int
    keras_adam: bool = False


class TrainingByHand:
    """Trains a Transformer; `step` is the tf.function.

    Args:
      values: {path: initial value}.
      num_layers, num_heads, dtype: see Transformer.
      training: see there.
    """

    def __init__(
        self,
        values: Mapping[str, np.ndarray],
        num_layers: int,
        num_heads: int,
        dtype: tf.DType,
        training: Training,
    ):
        self.model = by_hand.Transformer(values, num_layers, num_heads, dtype)
        self._training = training
        variables = self.model.variables.values()
        self._updates = tf.Variable(0, dtype=tf.int64)
        if training.keras_adam:
            self._keras = keras.optimizers.Adam(
                _Schedule(self.model.dim, training.warmup_steps),
                beta_1=training.beta1,
                beta_2=training.beta2,
                epsilon=training.epsilon,
            )
            self._keras.build(list(variables))
        else:
            self._means = [tf.Variable(tf.zeros_like(v)) for v in variables]
            self._squares = [tf.Variable(tf.zeros_like(v)) for v in variables]
        ids, paddings = (tf.TensorSpec([None, None], dtype) for dtype in (tf.int32, tf.float32))
        self.step = tf.function(
            self._step,
            autograph=False,
            input_signature=[ids, paddings, ids, ids, paddings],
        )

    def _step(
        self,
        source: tf.Tensor,
        source_paddings: tf.Tensor,
        target: tf.Tensor,
        labels: tf.Tensor,
        target_paddings: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One update.

        Args:
          source, target, labels: int32 [batch, time].
          source_paddings, target_paddings: float32 [batch, time].

        Returns:
          The loss and the norm of the gradients before clipping.
        """
        variables = list(self.model.variables.values())
        with tf.GradientTape() as tape:
            loss = self._loss(source, source_paddings, target, labels, target_paddings)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]
        norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(g) for g in gradients]))
        factor = self._training.clip / tf.maximum(norm, self._training.clip)
        gradients = [g * factor for g in gradients]
        if self._training.keras_adam:
            self._keras.apply(gradients)
        else:
            self._adam(gradients)
        self._updates.assign_add(1, read_value=False)
        return loss, norm

    def _loss(
        self,
        source: tf.Tensor,
        source_paddings: tf.Tensor,
        target: tf.Tensor,
        labels: tf.Tensor,
        target_paddings: tf.Tensor,
    ) -> tf.Tensor:
        model = self.model
        weights = model.weights()
        drop = Dropout(self._training.rate, self._updates)
        source_mask = by_hand.padding_mask(source_paddings)
        size = tf.size(source)
        ids = tf.concat([tf.reshape(source, [-1]), tf.reshape(target, [-1])], axis=0)
        embedded = model.embed(weights, ids)
        x = model.positioned(embedded[:size], tf.shape(source)[1])
        y = model.positioned(embedded[size:], tf.shape(target)[1])
        x = model.encode(weights, drop(x), source_mask, drop)
        mask = by_hand.causal_mask(target_paddings)
        y = model.decode(weights, drop(y), mask, x, source_mask, drop)
        logits = tf.matmul(y, weights['softmax'], transpose_b=True)
        losses = _cross_entropy(logits, tf.reshape(labels, [-1]), self._training.smoothing)
        real = 1.0 - tf.reshape(target_paddings, [-1])
        return tf.reduce_sum(losses * real) / tf.reduce_sum(real)

    def _adam(self, gradients: list[tf.Tensor]) -> None:
        training = self._training
        updates = self._updates.read_value()
        count = tf.cast(updates + 1, tf.float32)
        rate = _noam(updates, self.model.dim, training.warmup_steps)
        beta1_power = tf.pow(training.beta1, count)
        beta2_power = tf.pow(training.beta2, count)
        variables = self.model.variables.values()
        for variable, mean, square, gradient in zip(
            variables, self._means, self._squares, gradients
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=mean.handle,
                v=square.handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=rate,
                beta1=training.beta1,
                beta2=training.beta2,
                epsilon=training.epsilon,
                grad=gradient,
            )


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """`_noam` for a Keras optimizer."""

    def __init__(self, dim: int, warmup_steps: int):
        self._dim, self._warmup_steps = dim, warmup_steps

    def __call__(self, step: Any) -> tf.Tensor:
        return _noam(tf.convert_to_tensor(step), self._dim, self._warmup_steps)


def _noam(updates: tf.Tensor, dim: int, warmup_steps: int) -> tf.Tensor:
    """dim^-0.5 min(n^-0.5, n warmup_steps^-1.5), n = updates + 1 (Vaswani et al., section 5.3)."""
    n = tf.cast(updates + 1, tf.float32)
    return dim**-0.5 * tf.minimum(tf.math.rsqrt(n), n * warmup_steps**-1.5)


class Dropout:
    """Drops by one random byte an entry; each call draws anew."""

    def __init__(self, rate: float, updates: tf.Variable):
        self._dropped = round(rate * _LEVELS)
        self._step = tf.cast(updates, tf.int32)
        self._calls = 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """x: [n, dim], dim a multiple of 4."""
        if not self._dropped:
            return x
        self._calls += 1
        seed = tf.stack([self._step, self._calls])
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
        rows, dim = tf.shape(x)[0], x.shape[1]
        words = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[rows, dim // 4], key=key, counter=counter, alg=_PHILOX, dtype=tf.uint32
        )
        # [n, dim / 4] -> [n, dim / 4, 4] -> [n, dim]
        bytes_ = tf.reshape(tf.bitcast(words, tf.uint8), [rows, dim])
        scale = tf.constant(_LEVELS / (_LEVELS - self._dropped), x.dtype)
        return x * (tf.cast(bytes_ >= self._dropped, x.dtype) * scale)


def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Label-smoothed cross-entropy, float32 [n]; the fused kernel gives p - onehot beside it.

    Args:
      logits: [n, vocab], in the compute type.
      labels: int32 [n].
      smoothing: e of q = (1 - e) onehot + e / vocab.
    """

    @tf.custom_gradient
    def cross_entropy(logits: tf.Tensor) -> Any:
        x = tf.cast(logits, tf.float32)
        plain, difference = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=x, labels=labels
        )
        at_label = tf.stack([tf.range(tf.size(labels)), labels], axis=1)
        spread = tf.gather_nd(x, at_label) - tf.reduce_mean(x, axis=-1)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            dense = (difference - smoothing / x.shape[-1]) * upstream[:, tf.newaxis]
            both = tf.tensor_scatter_nd_add(dense, at_label, smoothing * upstream)
            return tf.cast(both, logits.dtype)

        return plain + smoothing * spread, gradient

    return cross_entropy(logits)
