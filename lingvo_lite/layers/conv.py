"""Convolution over time, and over time and frequency, of sequences with padding.

Position i of the output looks at positions i * stride + (j - (k - 1) // 2) * dilation of the input,
j = 0 .. k - 1, those outside of the sequence being zeros. So n positions give ceil(n / stride),
whatever stands behind them. (TensorFlow's 'SAME' shifts by a position with the parity of the padded
length.)
"""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base


class _Conv(base.BaseLayer):
    """What all convolutions share."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('use_bias', True, 'Whether to add b.')
        return p

    @property
    def output_dim(self) -> int:
        """Number of channels of the output."""
        return int(self.params.output_dim)

    def _CreateBias(self) -> None:
        if self.params.use_bias:
            self.CreateVariable('b', base.Bias(self.output_dim))

    def _Biased(self, y: tf.Tensor) -> tf.Tensor:
        return tf.nn.bias_add(y, self.theta.b) if self.params.use_bias else y


class _Conv1D(_Conv):
    """What convolutions over time share."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Number of channels of the input.', type=int)
        p.Define('kernel_size', REQUIRED, 'k, in positions of the input.', type=int)
        p.Define('stride', 1, 'Positions of the input to one of the output.')
        p.Define('dilation', 1, 'Distance between the positions that are looked at.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        hyperparams.RequireRange(p, 'input_dim', 'kernel_size', 'stride', 'dilation', at_least=1)
        if p.stride > 1 and p.dilation > 1:
            what = f'stride={p.stride} and dilation={p.dilation}: one of them must be 1.'
            raise hyperparams.Fail(p, what, 'stride')

    def _Padded(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """x in the compute type, zero at padding and around: [batch, time + (k-1) d, dim]."""
        p = self.params
        x = zero_at_padding(tf.cast(x, self.dtype), paddings)
        return tf.pad(x, [[0, 0], margins(p.kernel_size, p.dilation), [0, 0]])


class Conv1D(_Conv1D):
    """y_i = b + sum_j x_{i * stride + (j - (k - 1) // 2) * dilation} w_j.

    x: [batch, time, input_dim] -> y: [batch, ceil(time / stride), output_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('output_dim', REQUIRED, 'Number of channels of the output.', type=int)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('w', base.Weight([p.kernel_size, p.input_dim, p.output_dim]))
        self._CreateBias()

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """paddings: [batch, time]. Returns y, and paddings of [batch, ceil(time / stride)]."""
        p = self.params
        x = self._Padded(x, paddings)
        if p.dilation > 1:
            y = dilated(x, self.theta.w, p.dilation)
        else:
            y = tf.nn.conv1d(x, self.theta.w, p.stride, 'VALID')
        return self._Biased(y), paddings[:, :: p.stride]


class DepthwiseConv1D(_Conv1D):
    """Conv1D in which each channel looks only at itself.

    y_i = b + sum_j x_{i * stride + (j - (k - 1) // 2) * dilation} * w_j.

    x: [batch, time, input_dim] -> y: [batch, ceil(time / stride), input_dim].
    """

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('w', base.Weight([p.kernel_size, p.input_dim]))
        self._CreateBias()

    @property
    def output_dim(self) -> int:
        return int(self.params.input_dim)

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """paddings: [batch, time]. Returns y, and paddings of [batch, ceil(time / stride)]."""
        p = self.params
        # [batch, time, 1, dim] and [k, 1, dim, 1]: an image of width 1. (Of height 1, with time as
        # the width, TensorFlow 2.16's oneDNN kernel writes outside of its memory.)
        x = self._Padded(x, paddings)[:, :, tf.newaxis]
        w = self.theta.w[:, tf.newaxis, :, tf.newaxis]
        strides = [1, p.stride, p.stride, 1]
        y = tf.nn.depthwise_conv2d(x, w, strides, 'VALID', dilations=[p.dilation, 1])
        return self._Biased(tf.squeeze(y, axis=2)), paddings[:, :: p.stride]


class SeparableConv1D(_Conv1D):
    """DepthwiseConv1D without bias, then a linear map of the channels.

    x: [batch, time, input_dim] -> y: [batch, ceil(time / stride), output_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('output_dim', REQUIRED, 'Number of channels of the output.', type=int)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        depthwise = DepthwiseConv1D.Params().Set(
            input_dim=p.input_dim,
            kernel_size=p.kernel_size,
            stride=p.stride,
            dilation=p.dilation,
            use_bias=False,
        )
        self.CreateChild('depthwise', depthwise)
        self.CreateVariable('w', base.Weight([1, p.input_dim, p.output_dim]))
        self._CreateBias()

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """paddings: [batch, time]. Returns y, and paddings of [batch, ceil(time / stride)]."""
        x, paddings = self.depthwise(x, paddings)
        return self._Biased(tf.nn.conv1d(x, self.theta.w, 1, 'VALID')), paddings


class Conv2D(_Conv):
    """Convolution over time and frequency.

    x: [batch, time, frequency, in] -> y: [batch, ceil(time / s), ceil(frequency / s'), out], for
    strides (s, s').
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define(
            'filter_shape',
            REQUIRED,
            '(time, frequency, channels in, channels out).',
            type=tuple,
        )
        p.Define('filter_stride', (1, 1), 'Positions of the input to one of the output, each axis.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        super().Check(p)
        for key, count in (('filter_shape', 4), ('filter_stride', 2)):
            value = p.Get(key)
            fits = len(value) == count and all(isinstance(n, int) and n >= 1 for n in value)
            hyperparams.Require(p, fits, key, f'{count} whole numbers, each at least 1')

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        self.CreateVariable('w', base.Weight(self.params.filter_shape))
        self._CreateBias()

    @property
    def output_dim(self) -> int:
        return int(self.params.filter_shape[3])

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """paddings: [batch, time]. Returns y, and paddings of [batch, ceil(time / s)]."""
        time, frequency = self.params.filter_shape[:2]
        x = zero_at_padding(tf.cast(x, self.dtype), paddings)
        x = tf.pad(x, [[0, 0], margins(time), margins(frequency), [0, 0]])
        y = tf.nn.conv2d(x, self.theta.w, self.params.filter_stride, 'VALID')
        return self._Biased(y), paddings[:, :: self.params.filter_stride[0]]


def margins(kernel_size: int, dilation: int = 1) -> list[int]:
    """How many zeros to put in front of and behind an axis, for a 'VALID' convolution."""
    left = (kernel_size - 1) // 2
    return [left * dilation, (kernel_size - 1 - left) * dilation]


def dilated(x: tf.Tensor, w: tf.Tensor, dilation: int) -> tf.Tensor:
    """y_i = sum_j x_{i + j * dilation} w_j.

    By `dilation` convolutions of neighbours, each over every dilation-th position: on a CPU,
    TensorFlow 2.16 has no gradient of a dilated convolution in float16.

    Args:
      x: [batch, time + (k - 1) * dilation, in]; time is at least 1.
      w: [k, in, out].
      dilation: d, above 1.

    Returns:
      [batch, time, out].
    """
    kernel, channels, leaving = w.shape
    batch, length = tf.unstack(tf.shape(x)[:2])
    time = length - (kernel - 1) * dilation
    rows = (length + dilation - 1) // dilation
    x = tf.pad(x, [[0, 0], [0, rows * dilation - length], [0, 0]])
    # [batch, rows * d, in] -> [batch, d, rows, in] -> [batch * d, rows, in]
    x = tf.transpose(tf.reshape(x, [batch, rows, dilation, channels]), [0, 2, 1, 3])
    y = tf.nn.conv1d(tf.reshape(x, [batch * dilation, rows, channels]), w, 1, 'VALID')
    # [batch * d, rows - k + 1, out] -> [batch, rows - k + 1, d, out] -> [batch, time, out]
    rows -= kernel - 1
    y = tf.transpose(tf.reshape(y, [batch, dilation, rows, leaving]), [0, 2, 1, 3])
    return tf.reshape(y, [batch, rows * dilation, leaving])[:, :time]


def zero_at_padding(x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
    """x, with zeros where there is padding, whatever stood there.

    Args:
      x: [batch, time, ...].
      paddings: [batch, time].
    """
    return tf.where(real_positions(paddings, x.shape.rank), x, tf.zeros([], x.dtype))


def real_positions(paddings: tf.Tensor, rank: int) -> tf.Tensor:
    """paddings: [batch, time] -> bool [batch, time, 1, ...] with `rank` axes; False at padding."""
    return tf.reshape(paddings < 0.5, tf.concat([tf.shape(paddings), [1] * (rank - 2)], 0))
