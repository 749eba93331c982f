"""Adafactor: Adam's second moment kept as one row and one column, and no first moment."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim.optimizers import base_optimizer, moments


class Adafactor(base_optimizer.BaseOptimizer):
    """w <- w - a s u / max(1, rms(u) / clipping_threshold), with u = g / sqrt(v).

    b = 1 - t^-decay_exponent, h = g^2 + epsilon1, rms(x) = sqrt(mean(x^2)).
    For a matrix: r <- b r + (1 - b) mean of h over columns, c <- b c + (1 - b) mean of h over
    rows, and v = r c / mean(r). More axes than two: each matrix of the last two by itself.
    Otherwise, or if one of these axes is shorter than min_dim_size_to_factor:
    v <- b v + (1 - b) h.
    s = max(epsilon2, rms(w)), or 1 without multiply_by_parameter_scale.

    Source: Shazeer and Stern, 2018 (arXiv 1804.04235), algorithms 4 and 5; their rho_t is a, which
    `schedules.SqrtDecay` gives as they have it. keras.optimizers.Adafactor keeps a full v beside
    the factors, and names none of the three.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('decay_exponent', 0.8, 'How fast the memory of squared gradients grows.')
        moments.DefineEpsilon(p, 1e-30, to='squared gradients', name='epsilon1')
        p.Define('epsilon2', 1e-3, 'The least scale of a variable.')
        p.Define('clipping_threshold', 1.0, 'Largest root mean square of u.')
        p.Define('multiply_by_parameter_scale', True, 'Whether a is relative to rms(w).')
        p.Define('min_dim_size_to_factor', 128, 'Shortest axis that is worth factoring.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(
            p, 'decay_exponent', 'epsilon1', 'epsilon2', 'min_dim_size_to_factor', at_least=0
        )
        hyperparams.RequireRange(p, 'clipping_threshold', above=0)

    def _CreateSlots(self) -> tf.Variable:
        for path, variable in self._variables.items():
            shape = variable.shape.as_list()
            if self._IsFactored(shape):
                shapes = {'row': shape[:-1], 'column': [*shape[:-2], shape[-1]]}
            else:
                shapes = {'velocity': shape}
            for name, slot_shape in shapes.items():
                slot = base_optimizer.ZerosBeside(variable, slot_shape, f'{path}_{name}')
                self._slots[path][name] = slot
        return tf.Variable(0, dtype=tf.int64, trainable=False, name='iteration')

    def _IsFactored(self, shape: list[int]) -> bool:
        return len(shape) >= 2 and min(shape[-2:]) >= self.params.min_dim_size_to_factor

    def _Shared(self, learning_rate: tf.Tensor) -> dict[str, tf.Tensor]:
        t = tf.cast(self._iteration + 1, tf.float32)
        return {
            'learning_rate': learning_rate,
            'rest': tf.pow(t, -self.params.decay_exponent),  # 1 - b
        }

    def _Update(
        self,
        variable: tf.Variable,
        grad: tf.Tensor,
        slots: base_optimizer.Slots,
        shared: dict[str, tf.Tensor],
        path: str,
    ) -> None:
        p = self.params
        h = tf.square(grad) + p.epsilon1
        if 'row' in slots:
            row = _Moved(slots['row'], tf.reduce_mean(h, axis=-1), shared['rest'])
            column = _Moved(slots['column'], tf.reduce_mean(h, axis=-2), shared['rest'])
            # Two roots, because r c would underflow where both are near epsilon1.
            row = row / tf.reduce_mean(row, axis=-1, keepdims=True)
            # [..., rows, 1] and [..., 1, columns]
            u = grad * tf.math.rsqrt(row)[..., tf.newaxis]
            u *= tf.math.rsqrt(column)[..., tf.newaxis, :]
        else:
            u = grad * tf.math.rsqrt(_Moved(slots['velocity'], h, shared['rest']))
        rate = shared['learning_rate'] / tf.maximum(1.0, _Rms(u) / p.clipping_threshold)
        if p.multiply_by_parameter_scale:
            rate *= tf.maximum(p.epsilon2, _Rms(variable))
        variable.assign_sub(rate * u, read_value=False)


def _Moved(slot: tf.Variable, value: tf.Tensor, rest: tf.Tensor) -> tf.Tensor:
    """slot <- slot + rest (value - slot); returns the new value."""
    moved = slot + rest * (value - slot)
    slot.assign(moved, read_value=False)
    return moved


def _Rms(x: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(x)))
