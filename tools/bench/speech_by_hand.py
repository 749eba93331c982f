"""The training step of asr.SpokenDigits in plain TensorFlow, in one tf.function.

The mathematics of `tasks.asr.ctc_model.CtcModel` with a `DeepSpeechEncoder` of GRUs, in float32,
as `tasks.asr.params.spoken_digits` configures them, and of the learner, without any layer of ours.
Written for speed: convolutions pad by themselves, what all steps of a GRU share is computed outside
of its loop, and its backward pass is derived by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from lingvo_lite.layers.speech import ctc_loss, mel

from . import step_by_hand

_LEAST_DEVIATION = 0.25


class SpeechByHand:
    """Trains; `step` is the tf.function: (waveforms, num_samples, labels, num_labels) -> loss.

    Args:
      params: of the task.
      values: {path in the task: initial value}.
      kernel_of_tensorflow: whether tf.nn.ctc_loss computes the loss, which cannot bear all that
        ours can; otherwise `ctc_loss.ctc` does.
    """

    def __init__(
        self, params: Any, values: Mapping[str, np.ndarray], kernel_of_tensorflow: bool = False
    ):
        self._params = params
        self._kernel_of_tensorflow = kernel_of_tensorflow
        self.variables = {path: tf.Variable(value) for path, value in sorted(values.items())}
        self._shadows = {path: tf.Variable(value) for path, value in self.variables.items()}
        self._trained = [path for path in self.variables if '/moving_' not in path]
        zeros = {path: tf.zeros_like(self.variables[path]) for path in self._trained}
        self._means = {path: tf.Variable(zero) for path, zero in zeros.items()}
        self._squares = {path: tf.Variable(zero) for path, zero in zeros.items()}
        self._updates = tf.Variable(0, dtype=tf.int64)
        front = params.frontend
        self._window = round(front.sample_rate * front.frame_size_ms / 1000)
        self._hop = round(front.sample_rate * front.frame_step_ms / 1000)
        self._fft = 1 << (self._window - 1).bit_length()
        edges = front.lower_edge_hertz, front.upper_edge_hertz
        bands = mel.mel_matrix(front.num_bins, self._fft, front.sample_rate, *edges, 'htk')
        self._bands = tf.constant(bands, tf.float32)
        vector, rows = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)
        self.step = tf.function(
            self._step,
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.float32), vector, rows, vector],
        )

    def _step(
        self, waveforms: tf.Tensor, num_samples: tf.Tensor, labels: tf.Tensor, num_labels: tf.Tensor
    ) -> tf.Tensor:
        """One update; waveforms: [batch, samples], labels: [batch, labels] without <s>, </s>."""
        train = self._params.train
        self._drawn = 0
        weights = {path: tf.convert_to_tensor(v) for path, v in self.variables.items()}
        trained = [weights[path] for path in self._trained]
        x, paddings = self._features(waveforms, num_samples)
        x = self._masked(x, paddings)
        with tf.GradientTape() as tape:
            tape.watch(trained)
            logits, paddings = self._logits(weights, x, paddings)
            frames = tf.reduce_sum(tf.cast(paddings < 0.5, tf.int32), axis=1)
            losses = self._losses(logits, frames, labels, num_labels)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, trained)
        norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(g) for g in gradients]))
        most = train.clip_gradient_norm_to_value
        factor = most / tf.maximum(norm, most)
        self._adam([g * factor for g in gradients])
        n = tf.cast(self._updates.assign_add(1), tf.float32)
        rate = 1.0 - tf.minimum(train.ema_decay, (1.0 + n) / (10.0 + n))
        for path, shadow in self._shadows.items():
            shadow.assign_sub(rate * (shadow - self.variables[path]), read_value=False)
        return loss

    def _features(self, x: tf.Tensor, num_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Normalized log-mel, [batch, frames, bins], and paddings, [batch, frames]."""
        front = self._params.frontend
        count = tf.shape(x)[1]
        real = tf.sequence_mask(num_samples, count, tf.float32)
        x = (x - front.preemph * tf.pad(x, [[0, 0], [1, 0]])[:, :-1]) * real
        frames = -(-count // self._hop)
        x = tf.pad(x, [[0, 0], [0, (frames - 1) * self._hop + self._window - count]])
        x = tf.signal.frame(x, self._window, self._hop) * tf.signal.hann_window(self._window)
        spectrum = tf.signal.rfft(x, [self._fft])
        power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
        # [batch * frames, fft / 2 + 1] -> [batch, frames, bins]
        x = tf.matmul(tf.reshape(power, [-1, self._fft // 2 + 1]), self._bands)
        x = tf.reshape(x, [-1, frames, front.num_bins])
        x = tf.math.log(tf.maximum(x, front.log_floor))
        real = tf.sequence_mask(-(-num_samples // self._hop), frames, tf.float32)
        mask = real[:, :, tf.newaxis]
        count = tf.reduce_sum(mask, axis=1, keepdims=True)
        x = (x - tf.reduce_sum(x * mask, axis=1, keepdims=True) / count) * mask
        variance = tf.reduce_sum(tf.square(x), axis=1, keepdims=True) / count
        return x * tf.math.rsqrt(tf.maximum(variance, _LEAST_DEVIATION**2)), 1.0 - real

    def _masked(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """SpecAugment."""
        p = self._params.spec_augment
        batch, time, bins = tf.unstack(tf.shape(x))
        frames = tf.reduce_sum(1.0 - paddings, axis=1)
        if p.time_mask_count:
            longest = tf.minimum(1.0 * p.time_mask_max_frames, frames * p.time_mask_max_ratio)
            masks = self._stretches(p.time_mask_count, tf.floor(longest), frames, time)
            x *= masks[:, :, tf.newaxis]
        if p.freq_mask_count:
            widest = tf.fill([batch], 1.0 * p.freq_mask_max_bins)
            everywhere = tf.fill([batch], tf.cast(bins, tf.float32))
            x *= self._stretches(p.freq_mask_count, widest, everywhere, bins)[:, tf.newaxis]
        return x

    def _stretches(
        self, count: int, longest: tf.Tensor, size: tf.Tensor, axis: tf.Tensor
    ) -> tf.Tensor:
        """[batch, axis]: 0.0 in `count` random stretches, 1.0 elsewhere."""
        batch = tf.shape(size)[0]
        u = tf.random.stateless_uniform([2, batch, count, 1], self._seed())
        length = tf.floor(u[0] * (longest[:, tf.newaxis, tf.newaxis] + 1.0))
        start = tf.floor(u[1] * (size[:, tf.newaxis, tf.newaxis] - length + 1.0))
        places = tf.cast(tf.range(axis), tf.float32)
        inside = (places >= start) & (places < start + length)
        return 1.0 - tf.cast(tf.reduce_any(inside, axis=1), tf.float32)

    def _logits(
        self, weights: dict[str, tf.Tensor], x: tf.Tensor, paddings: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """[batch, frames, vocab_size], and paddings."""
        p = self._params.encoder
        x = x[:, :, :, tf.newaxis]
        for i, (kernel, stride) in enumerate(zip(p.conv_kernels, p.conv_strides)):
            margins = [[(k - 1) // 2, k // 2] for k in kernel]
            w = weights[f'encoder/conv_{i}/conv/w']
            x = tf.nn.conv2d(x, w, stride, [[0, 0], *margins, [0, 0]])
            paddings = paddings[:, :: stride[0]]
            mask = (1.0 - paddings)[:, :, tf.newaxis, tf.newaxis]
            # The next convolution sees zeros behind the end.
            x = tf.nn.relu(self._batch_norm(weights, f'encoder/conv_{i}/batch_norm', x, mask))
            x *= mask
        batch, time = tf.unstack(tf.shape(x)[:2])
        dim = x.shape[2] * x.shape[3]
        # [batch, time, frequency, channels] -> [time * batch, frequency * channels]
        rows = tf.reshape(tf.transpose(x, [1, 0, 2, 3]), [-1, dim])
        padded = tf.transpose(paddings)[:, :, tf.newaxis] > 0.5
        both = []
        for name in ('forward', 'backward'):
            w, u, b, d = (weights[f'encoder/rnn/layers_0/{name}/cell/{key}'] for key in 'wubd')
            gates = tf.reshape(tf.nn.bias_add(tf.matmul(rows, w), b), [time, batch, b.shape[0]])
            both.append(gru(gates, u, d, padded, reverse=name == 'backward'))
        x = tf.concat(both, axis=2)
        x = tf.reshape(x, [-1, x.shape[2]])
        x = tf.nn.bias_add(tf.matmul(x, weights['encoder/hidden/w']), weights['encoder/hidden/b'])
        x = self._dropped(tf.nn.relu(x))
        x = tf.nn.bias_add(tf.matmul(x, weights['logits/w']), weights['logits/b'])
        return tf.transpose(tf.reshape(x, [time, batch, x.shape[1]]), [1, 0, 2]), paddings

    def _batch_norm(
        self, weights: dict[str, tf.Tensor], path: str, x: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """x: [batch, time, frequency, channels], mask: [batch, time, 1, 1]."""
        p = self._params.encoder.conv.batch_norm
        count = tf.reduce_sum(mask) * x.shape[2]
        mean = tf.reduce_sum(x * mask, axis=[0, 1, 2]) / count
        centered = x - mean
        variance = tf.reduce_sum(tf.square(centered) * mask, axis=[0, 1, 2]) / count
        for name, value in (('mean', mean), ('variance', variance)):
            average = self.variables[f'{path}/moving_{name}']
            average.assign_sub((1.0 - p.decay) * (average - value), read_value=False)
        factor = tf.math.rsqrt(variance + p.epsilon) * weights[f'{path}/scale']
        return centered * factor + weights[f'{path}/bias']

    def _dropped(self, x: tf.Tensor) -> tf.Tensor:
        rate = self._params.encoder.dropout_prob
        self._drawn += 1
        return step_by_hand.Dropout(rate, self._updates)(x) if rate else x

    def _losses(
        self, logits: tf.Tensor, frames: tf.Tensor, labels: tf.Tensor, num_labels: tf.Tensor
    ) -> tf.Tensor:
        """-log p of each text, [batch]."""
        if not self._kernel_of_tensorflow:
            labels = tf.where(tf.sequence_mask(num_labels, tf.shape(labels)[1]), labels, 0)
            return ctc_loss.ctc(logits, frames, labels, num_labels)
        places = tf.where(tf.sequence_mask(num_labels, tf.shape(labels)[1]))
        texts = tf.SparseTensor(
            places, tf.gather_nd(labels, places), tf.shape(labels, out_type=tf.int64)
        )
        return tf.nn.ctc_loss(texts, logits, None, frames, logits_time_major=False, blank_index=0)

    def _adam(self, gradients: list[tf.Tensor]) -> None:
        train = self._params.train
        p, warm = train.optimizer, train.lr_schedule
        updates = self._updates.read_value()
        count = tf.cast(updates + 1, tf.float32)
        least = warm.schedule.final_value
        x = tf.minimum(1.0, tf.cast(updates, tf.float32) / warm.schedule.total_steps)
        rate = least + 0.5 * (1.0 - least) * (1.0 + tf.cos(math.pi * x))
        rate *= train.learning_rate * tf.minimum(1.0, count / warm.warmup_steps)
        beta1_power, beta2_power = tf.pow(p.beta1, count), tf.pow(p.beta2, count)
        for path, gradient in zip(self._trained, gradients):
            tf.raw_ops.ResourceApplyAdam(
                var=self.variables[path].handle,
                m=self._means[path].handle,
                v=self._squares[path].handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=rate,
                beta1=p.beta1,
                beta2=p.beta2,
                epsilon=p.epsilon,
                grad=gradient,
            )

    def _seed(self) -> tf.Tensor:
        self._drawn += 1
        return tf.stack([tf.cast(self._updates, tf.int32), self._drawn])


def gru(x: tf.Tensor, u: tf.Tensor, d: tf.Tensor, padded: tf.Tensor, reverse: bool) -> tf.Tensor:
    """z, r = sigm(x + h u);  n = tanh(x_n + r c), c = h u_n + d;  h' = z h + (1 - z) n.

    Args:
      x: [time, batch, 3 * dim], with the bias.
      u: [dim, 3 * dim].
      d: [dim].
      padded: bool [time, batch, 1]: there h stays, and the result is zero.
      reverse: whether the last step comes first.

    Returns:
      h', [time, batch, dim].
    """
    time, batch = tf.unstack(tf.shape(x)[:2])
    dim = u.shape[0]
    masks = _array(padded)

    def places(n: tf.Tensor) -> tf.Tensor:
        return time - 1 - n if reverse else n

    def empty(size: int) -> tf.TensorArray:
        return tf.TensorArray(tf.float32, time, element_shape=[None, size])

    @tf.custom_gradient
    def run(x: tf.Tensor, u: tf.Tensor, d: tf.Tensor) -> Any:
        terms = _array(x)

        def forward(n: tf.Tensor, h: tf.Tensor, olds: Any, news: Any, kept: Any) -> tuple:
            t = places(n)
            term, product = terms.read(t), tf.matmul(h, u)
            gates = tf.sigmoid(term[:, : 2 * dim] + product[:, : 2 * dim])
            z, r = tf.split(gates, 2, axis=1)
            c = product[:, 2 * dim :] + d
            new = tf.tanh(term[:, 2 * dim :] + r * c)
            after = tf.where(masks.read(t), h, new + z * (h - new))
            kept = kept.write(t, tf.concat([gates, new, c], axis=1))
            return n + 1, after, olds.write(t, h), news.write(t, after), kept

        start = (0, tf.zeros([batch, dim]), empty(dim), empty(dim), empty(4 * dim))
        *_, olds, news, kept = tf.while_loop(lambda n, *_: n < time, forward, start)
        before, kept = olds.stack(), kept.stack()

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            d_ys, hs, gates = _array(upstream), _array(before), _array(kept)

            def backward(n: tf.Tensor, d_h: tf.Tensor, d_xs: Any, d_products: Any) -> tuple:
                t = places(time - 1 - n)
                h, padded_now = hs.read(t), masks.read(t)
                z, r, new, c = tf.split(gates.read(t), 4, axis=1)
                d_after = d_h + d_ys.read(t)
                d_n = d_after * (1.0 - z) * (1.0 - tf.square(new))
                d_zr = [d_after * (h - new) * z * (1.0 - z), d_n * c * r * (1.0 - r)]
                zero = tf.zeros([])
                d_x = tf.where(padded_now, zero, tf.concat([*d_zr, d_n], axis=1))
                d_product = tf.where(padded_now, zero, tf.concat([*d_zr, d_n * r], axis=1))
                d_before = d_after * z + tf.matmul(d_product, u, transpose_b=True)
                d_h = tf.where(padded_now, d_h, d_before)
                return n + 1, d_h, d_xs.write(t, d_x), d_products.write(t, d_product)

            start = (0, tf.zeros([batch, dim]), empty(3 * dim), empty(3 * dim))
            *_, d_xs, d_products = tf.while_loop(lambda n, *_: n < time, backward, start)
            # [time * batch, 3 * dim]
            d_product = tf.reshape(d_products.stack(), [-1, 3 * dim])
            d_u = tf.matmul(tf.reshape(before, [-1, dim]), d_product, transpose_a=True)
            return d_xs.stack(), d_u, tf.reduce_sum(d_product[:, 2 * dim :], axis=0)

        return news.stack(), gradient

    return tf.where(padded, 0.0, run(x, u, d))


def _array(x: tf.Tensor) -> tf.TensorArray:
    """[time, ...], to read from."""
    array = tf.TensorArray(x.dtype, tf.shape(x)[0], element_shape=x.shape[1:])
    return array.unstack(x)
