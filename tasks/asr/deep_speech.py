"""The encoder of Deep Speech 2 (Amodei et al., arXiv 1512.02595)."""

from __future__ import annotations

import math

import tensorflow as tf

from lingvo_lite import hyperparams, layers
from lingvo_lite.hyperparams import REQUIRED, Self


class RowConvolution(layers.BaseLayer):
    """y_t = relu(batch_norm(sum_j x_{t+j} * w_j)), j = 0 .. width - 1 (section 3.7).

    It lets a network of one direction look `width - 1` frames ahead.

    x: [batch, time, input_dim] -> y: the same.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Number of channels.', type=int)
        p.Define('width', REQUIRED, 'Frames that are looked at.', type=int)
        p.Define('batch_norm', layers.BatchNorm.Params(), 'The batch norm.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('w', layers.Weight([p.width, p.input_dim]))
        self.CreateChild('batch_norm', layers.handed(p, 'batch_norm', model_dim=p.input_dim))

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """paddings: [batch, time]."""
        time, width = tf.shape(x)[1], self.params.width
        x = layers.zero_at_padding(tf.cast(x, self.dtype), paddings)
        x = tf.pad(x, [[0, 0], [0, width - 1], [0, 0]])
        w = tf.convert_to_tensor(self.theta.w)
        y = tf.add_n([x[:, j : j + time] * w[j] for j in range(width)])
        return tf.nn.relu(self.batch_norm(y, paddings))


class DeepSpeechEncoder(layers.BaseLayer):
    """Convolutions over time and frequency, recurrent layers, a fully connected one.

    x: [batch, time, input_dim] -> [batch, ceil(time / strides), hidden_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Number of features.', type=int)
        p.Define('conv_kernels', REQUIRED, '(time, frequency) of each convolution.', type=list)
        p.Define('conv_strides', REQUIRED, '(time, frequency) of each convolution.', type=list)
        p.Define('conv_channels', REQUIRED, 'Channels of each convolution.', type=list)
        conv_block = layers.ConvBlock.Params()
        conv_block.conv = layers.Conv2D.Params().Set(use_bias=False)
        p.Define('conv', conv_block, 'Each convolution, with norm and activation.')
        p.Define(
            'rnn', layers.StackedBidirectionalRNN.Params(), 'The layers.', bound=layers.BaseLayer
        )
        p.Define('row_conv_width', 0, 'Frames that a row convolution looks at; 0 for none.')
        p.Define('hidden_dim', REQUIRED, 'Size of the fully connected layer.', type=int)
        p.Define('dropout_prob', 0.0, 'Dropout rate behind the fully connected layer.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        for key in ('conv_strides', 'conv_channels'):
            if len(p.Get(key)) != len(p.conv_kernels):
                what = f'{len(p.conv_kernels)} conv_kernels need as many {key}, got {p.Get(key)}.'
                raise hyperparams.Fail(p, what, key)

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        frequency, channels, convolutions = p.input_dim, 1, []
        for kernel, stride, leaving in zip(p.conv_kernels, p.conv_strides, p.conv_channels):
            layer = p.conv.Copy()
            shape = (*kernel, channels, leaving)
            layer.conv = layers.handed(
                layer, 'conv', filter_shape=shape, filter_stride=tuple(stride)
            )
            convolutions.append(layer)
            frequency, channels = -(-frequency // stride[1]), leaving
        self.CreateChildren('conv', convolutions)
        self.CreateChild('rnn', layers.handed(p, 'rnn', input_dim=frequency * channels))
        dim = self.rnn.output_dim
        if p.row_conv_width:
            row = RowConvolution.Params().Set(input_dim=dim, width=p.row_conv_width)
            self.CreateChild('row_conv', row)
        hidden = layers.Linear.Params().Set(input_dim=dim, output_dim=p.hidden_dim)
        self.CreateChild('hidden', hidden)
        self.CreateChild('dropout', layers.Dropout.Params().Set(rate=p.dropout_prob))

    @property
    def output_dim(self) -> int:
        """Size of the output."""
        return int(self.params.hidden_dim)

    @property
    def time_stride(self) -> int:
        """Frames of the input for each of the output."""
        return math.prod(stride[0] for stride in self.params.conv_strides)

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """x: [batch, time, input_dim], paddings: [batch, time]. Returns y, and its paddings."""
        x = x[:, :, :, tf.newaxis]
        for layer in self.conv:
            x, paddings = layer(x, paddings)
        # [batch, time, frequency, channels] -> [batch, time, frequency * channels]
        batch, time = tf.unstack(tf.shape(x)[:2])
        x = self.rnn(tf.reshape(x, [batch, time, x.shape[2] * x.shape[3]]), paddings)
        if self.params.row_conv_width:
            x = self.row_conv(x, paddings)
        return self.dropout(tf.nn.relu(self.hidden(x))), paddings
