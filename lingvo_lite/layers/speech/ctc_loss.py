"""Connectionist temporal classification (Graves et al., 2006)."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from lingvo_lite.layers import base
from lingvo_lite.nested_map import NestedMap

BLANK = 0
_IMPOSSIBLE = -1e30


class CtcLoss(base.BaseLayer):
    """-log p(labels | logits), summed over all ways to place the labels in time.

    Token 0 is the blank. A label needs a frame of its own, and one more for the blank between it
    and an equal label in front of it. Utterances that are too short for their labels are counted
    and left out; so are rows without any frame. All is computed in float32.
    """

    def FProp(
        self,
        logits: tf.Tensor,
        paddings: tf.Tensor,
        labels: tf.Tensor,
        label_paddings: tf.Tensor,
    ) -> NestedMap:
        """The loss.

        Args:
          logits: [batch, time, vocab].
          paddings: [batch, time].
          labels: int [batch, labels], in 1 .. vocab - 1 where there is no padding.
          label_paddings: [batch, labels].

        Returns:
          All float32, in nats:
            loss_sum: scalar, over the utterances that count.
            weight_sum: scalar, how many these are.
            too_long: scalar, number of utterances whose labels do not fit into their frames.
            per_example_loss: [batch], 0.0 for what does not count.
            per_example_weight: [batch], 1.0 for what counts.
        """
        frames = _Lengths(paddings)
        lengths = _Lengths(label_paddings)
        labels = tf.cast(labels, tf.int32)
        labels = tf.where(label_paddings < 0.5, labels, BLANK)
        fits = frames_needed(labels, lengths) <= frames
        counts = fits & (frames > 0)
        # What does not count is computed as an empty transcript, whose loss is finite.
        loss = ctc(logits, frames, labels, tf.where(counts, lengths, 0))
        loss = tf.where(counts, loss, 0.0)
        weights = tf.cast(counts, tf.float32)
        return NestedMap(
            loss_sum=tf.reduce_sum(loss),
            weight_sum=tf.reduce_sum(weights),
            too_long=tf.reduce_sum(tf.cast(~fits, tf.float32)),
            per_example_loss=loss,
            per_example_weight=weights,
        )


def frames_needed(labels: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The least number of frames for the labels: int32 [batch].

    Args:
      labels: int [batch, labels].
      lengths: int32 [batch], how many of them count.
    """
    within = tf.sequence_mask(lengths, tf.shape(labels)[1])[:, 1:]
    repeats = (labels[:, 1:] == labels[:, :-1]) & within
    return lengths + tf.reduce_sum(tf.cast(repeats, tf.int32), axis=1)


def ctc(logits: tf.Tensor, frames: tf.Tensor, labels: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """-log p(labels | logits), with a gradient for the logits (Graves et al., section 4.1).

    The variables alpha of all labellings from the start and beta of all from the end are computed
    in logarithms, in one loop: beta is alpha of everything reversed. With log p = log softmax and
    the labels l' = blank l1 blank l2 ... blank, that is 2 labels + 1 states:

        alpha_t(s) = log p_t(l'_s) + log(e^alpha_{t-1}(s) + e^alpha_{t-1}(s-1) + e^alpha_{t-1}(s-2))

    the last only from a label to a different one. The gradient of the loss is
    p_t(k) - sum_{s: l'_s = k} e^(alpha_t(s) + beta_t(s) - log p_t(l'_s) + loss).

    tf.nn.ctc_loss was not taken: its fast kernel computes in probabilities, so that the loss
    becomes infinite where one is below 1e-38, and fails on empty labels; its other one is slow.

    Args:
      logits: [batch, time, vocab], of any floating type.
      frames: int32 [batch], how many times count.
      labels: int32 [batch, labels].
      lengths: int32 [batch], how many labels count. They must fit: see `frames_needed`.

    Returns:
      float32 [batch].
    """

    @tf.custom_gradient
    def Loss(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        log_p = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        times = tf.shape(log_p)[1]
        states = 2 * lengths + 1
        # [batch, time, states]
        emitted = tf.gather(log_p, _Extended(labels), axis=2, batch_dims=1)
        both_emitted = tf.concat([emitted, _Reversed(emitted, frames, states)], axis=0)
        both_labels = tf.concat([labels, tf.reverse_sequence(labels, lengths, seq_axis=1)], axis=0)
        real = tf.tile(tf.sequence_mask(frames, times), [2, 1])
        # [2 batch, time, states]
        alpha, beta = tf.split(_Alpha(both_emitted, both_labels, real), 2)
        beta = _Reversed(beta, frames, states)
        loss = -_Total(alpha[:, -1], states)

        def Gradient(upstream: tf.Tensor) -> tf.Tensor:
            frame = real[: tf.shape(labels)[0], :, tf.newaxis]
            within = tf.sequence_mask(states, tf.shape(emitted)[2])[:, tf.newaxis]
            # [batch, time, states]. Their sum over the states is e^-loss in every frame; dividing
            # by the sum itself takes away what alpha and beta have rounded on their long way.
            posterior = tf.where(frame & within, alpha + beta - emitted, tf.float32.min)
            posterior = tf.where(frame & within, tf.nn.softmax(posterior), 0.0)
            # Half of the states are the blank: they are summed before they are subtracted.
            gradient = tf.exp(log_p)
            blank = tf.reduce_sum(posterior[:, :, 0::2], axis=-1, keepdims=True)
            gradient = tf.concat([gradient[:, :, :1] - blank, gradient[:, :, 1:]], axis=-1)
            gradient = tf.tensor_scatter_nd_sub(
                gradient, _Indices(labels, times), posterior[:, :, 1::2]
            )
            scale = tf.where(frame, upstream[:, tf.newaxis, tf.newaxis], 0.0)
            return tf.cast(gradient * scale, logits.dtype)

        return loss, Gradient

    return Loss(logits)


def _Lengths(paddings: tf.Tensor) -> tf.Tensor:
    """paddings: [batch, time] -> int32 [batch], the number of times without padding."""
    return tf.reduce_sum(tf.cast(paddings < 0.5, tf.int32), axis=1)


def _Extended(labels: tf.Tensor) -> tf.Tensor:
    """[batch, labels] -> [batch, 2 labels + 1], with blanks around each."""
    blanks = tf.fill(tf.shape(labels), BLANK)
    # [batch, labels, 2] -> [batch, 2 labels]
    pairs = tf.reshape(tf.stack([blanks, labels], axis=2), [tf.shape(labels)[0], -1])
    return tf.pad(pairs, [[0, 0], [0, 1]], constant_values=BLANK)


def _Reversed(x: tf.Tensor, frames: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
    """x: [batch, time, states], each example's frames and states in the opposite order."""
    return tf.reverse_sequence(tf.reverse_sequence(x, frames, seq_axis=1), states, seq_axis=2)


def _Alpha(emitted: tf.Tensor, labels: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """The forward variables.

    Args:
      emitted: [batch, time, states].
      labels: int32 [batch, labels].
      real: bool [batch, time].

    Returns:
      [batch, time, states]; behind the last real frame it stays as it is.
    """
    shape = tf.shape(emitted)
    batch, times, states = shape[0], shape[1], shape[2]
    # A label may follow another without a blank between them: [batch, states - 1]
    skips = tf.pad(labels[:, 1:] != labels[:, :-1], [[0, 0], [1, 0]])[:, : tf.shape(labels)[1]]
    skips = tf.reshape(tf.stack([tf.zeros_like(skips), skips], axis=2), [batch, -1])
    barrier = tf.where(tf.pad(skips, [[0, 0], [0, 1]]), 0.0, _IMPOSSIBLE)
    # [time, batch, states] and [time, batch, 1]
    emitted = tf.transpose(emitted, [1, 0, 2])
    real = tf.transpose(real)[:, :, tf.newaxis]
    impossible = tf.fill([batch, 2], _IMPOSSIBLE)
    start = tf.concat([tf.zeros([batch, 1]), tf.fill([batch, states - 1], _IMPOSSIBLE)], axis=1)

    def Step(
        t: tf.Tensor, alpha: tf.Tensor, found: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        # [batch, 2 + states]: what stands one and two states before
        before = tf.concat([impossible, alpha], axis=1)
        one, two = before[:, 1:-1], before[:, :-2] + barrier
        most = tf.maximum(alpha, tf.maximum(one, two))
        total = tf.exp(alpha - most) + tf.exp(one - most) + tf.exp(two - most)
        alpha = tf.where(real[t], most + tf.math.log(total) + emitted[t], alpha)
        return t + 1, alpha, found.write(t, alpha)

    found = tf.TensorArray(tf.float32, size=times, element_shape=emitted.shape[1:])
    _, _, found = tf.while_loop(
        lambda t, *_: t < times,
        Step,
        (0, start, found),
        shape_invariants=(tf.TensorShape([]), emitted.shape[1:], None),
        parallel_iterations=1,
    )
    return tf.transpose(found.stack(), [1, 0, 2])


def _Total(alpha: tf.Tensor, states: tf.Tensor) -> tf.Tensor:
    """log p of all labellings that end in the last blank or the last label.

    Args:
      alpha: [batch, states], at the last frame.
      states: int32 [batch], how many of them count.
    """
    last = tf.gather(alpha, states - 1, batch_dims=1)
    before = tf.gather(alpha, tf.maximum(states - 2, 0), batch_dims=1)
    both = tf.reduce_logsumexp(tf.stack([last, before]), axis=0)
    return tf.where(states > 1, both, last)


def _Indices(labels: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    """Where p of each label stands at each time: int32 [batch, time, labels, 3]."""
    shape = tf.shape(labels)
    rows, times, each = tf.meshgrid(
        tf.range(shape[0]), tf.range(times), tf.range(shape[1]), indexing='ij'
    )
    tokens = tf.gather_nd(labels, tf.stack([rows, each], axis=-1))
    return tf.stack([rows, times, tokens], axis=-1)
