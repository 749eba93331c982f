"""The encoder of Listen, Attend and Spell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lingvo_lite import hyperparams, layers
from lingvo_lite.hyperparams import Self


class AsrEncoder(layers.BaseLayer):
    """Convolutions, convolutional LSTMs, then LSTMs in both directions with projections between.

        conv, norm, relu                                    for each of conv_filter_shapes
        ConvLSTM in both directions, conv, norm, relu       num_conv_lstm_layers times
        LSTM in both directions (linear, norm, relu)        num_lstm_layers times

    Source: Zhang et al., arXiv 1610.03022, section 2; sizes and first values as in Lingvo.

    x: [batch, time, features] -> [batch, ceil(time / strides), 2 * lstm_cell_size].

    features may be several times frequency * channels of `input_shape`; then each frame is so many
    frames, one behind the other.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define(
            'input_shape',
            [None, None, 80, 3],
            '(batch, time, frequency, channels) of the first convolution; the first two are None.',
        )
        p.Define(
            'conv_filter_shapes',
            [(3, 3, 3, 32), (3, 3, 32, 32)],
            '(time, frequency, channels in, channels out) of each convolution.',
        )
        p.Define('conv_filter_strides', [(2, 2), (2, 2)], '(time, frequency) of each convolution.')
        p.Define('cnn_tpl', layers.ConvBlock.Params(), 'Each convolution, with norm and relu.')
        p.Define('num_conv_lstm_layers', 1, 'Number of convolutional LSTMs.')
        p.Define(
            'conv_lstm_tpl',
            layers.ConvLSTM.Params(),
            'Each convolutional LSTM, of each direction.',
            bound=layers.BaseLayer,
        )
        p.Define(
            'after_conv_lstm_cnn_tpl',
            layers.ConvBlock.Params(),
            'The 3 x 3 convolution behind each convolutional LSTM, with norm and relu.',
        )
        p.Define('num_lstm_layers', 3, 'Number of LSTM layers.')
        p.Define('lstm_cell_size', 256, 'Size of each LSTM, in each direction.')
        p.Define('lstm_tpl', layers.LSTMCell.Params(), 'Each cell.', bound=layers.BaseLayer)
        p.Define(
            'project_lstm_output', True, 'Whether a projection follows each LSTM but the last.'
        )
        p.Define('proj_tpl', layers.Linear.Params(), 'Each projection.', bound=layers.BaseLayer)
        p.Define('batch_norm', layers.BatchNorm.Params(), 'The norm of each projection.')
        p.Define('dropout_prob', 0.0, 'Dropout rate of the inputs of each LSTM but the first.')
        for part in (p.cnn_tpl, p.conv_lstm_tpl, p.after_conv_lstm_cnn_tpl, p.proj_tpl):
            part.params_init = layers.WeightInit.TruncatedGaussian(0.1)
        for part in (p.cnn_tpl, p.after_conv_lstm_cnn_tpl):
            part.conv = layers.Conv2D.Params().Set(use_bias=False)
        p.proj_tpl.use_bias = False  # The norm behind it has one.
        p.lstm_tpl.params_init = layers.WeightInit.Uniform(0.1)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        shape = p.input_shape
        fits = len(shape) == 4 and list(shape[:2]) == [None, None] and all(shape[2:])
        hyperparams.Require(p, fits, 'input_shape', '[None, None, frequency, channels]')
        if len(p.conv_filter_shapes) != len(p.conv_filter_strides):
            raise hyperparams.Fail(
                p,
                f'{len(p.conv_filter_shapes)} conv_filter_shapes need as many conv_filter_strides, '
                f'got {len(p.conv_filter_strides)}.',
                'conv_filter_strides',
            )
        channels = shape[3]
        for n, (_, _, entering, leaving) in enumerate(p.conv_filter_shapes):
            if entering != channels:
                raise hyperparams.Fail(
                    p,
                    f'conv_filter_shapes[{n}] takes {entering} channels, and gets {channels}.',
                    'conv_filter_shapes',
                )
            channels = leaving
        hyperparams.RequireRange(p, 'num_lstm_layers', at_least=1)

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        frequency, channels = p.input_shape[2:]
        convolutions = []
        for shape, stride in zip(p.conv_filter_shapes, p.conv_filter_strides):
            convolutions.append(self._Conv('cnn_tpl', shape, stride))
            frequency, channels = -(-frequency // stride[1]), shape[3]
        self.CreateChildren('conv', convolutions)
        self._CreateConvLstms(channels)
        self._CreateLstms(frequency * channels)

    @property
    def output_dim(self) -> int:
        """Size of the output."""
        return int(self.lstm[-1].output_dim)

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """x: [batch, time, features], paddings: [batch, time]; see the class. Returns both."""
        _, _, frequency, channels = self.params.input_shape
        x, paddings = unfold(tf.cast(x, self.dtype), paddings, frequency, channels)
        for layer in self.conv:
            x, paddings = layer(x, paddings)
        for n, layer in enumerate(self.conv_lstm_conv):
            both = [self.conv_lstm_forward[n](x, paddings), self.conv_lstm_backward[n](x, paddings)]
            x, paddings = layer(tf.concat(both, axis=3), paddings)
        # [batch, time, frequency, channels] -> [batch, time, frequency * channels]
        x = tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], x.shape[2] * x.shape[3]])
        for n, layer in enumerate(self.lstm):
            x = layer(self.dropout(x) if n else x, paddings)
            if n < len(self.proj):
                x = tf.nn.relu(self.proj_norm[n](self.proj[n](x), paddings))
        return x, paddings

    def _CreateConvLstms(self, channels: int) -> None:
        p = self.params
        count = p.num_conv_lstm_layers
        one = layers.handed(p, 'conv_lstm_tpl', input_dim=channels, cell_dim=channels)
        self.CreateChildren('conv_lstm_forward', [one] * count)
        self.CreateChildren('conv_lstm_backward', [one.Copy().Set(reverse=True)] * count)
        shape = (3, 3, 2 * channels, channels)
        behind = self._Conv('after_conv_lstm_cnn_tpl', shape, (1, 1))
        self.CreateChildren('conv_lstm_conv', [behind] * count)

    def _CreateLstms(self, input_dim: int) -> None:
        p = self.params
        output_dim = 2 * p.lstm_cell_size
        stack = []
        for n in range(p.num_lstm_layers):
            dim = output_dim if n else input_dim
            cell = layers.handed(p, 'lstm_tpl', input_dim=dim, cell_dim=p.lstm_cell_size)
            stack.append(layers.BidirectionalRNN.Params().Set(cell=cell))
        self.CreateChildren('lstm', stack)
        self.CreateChild('dropout', layers.Dropout.Params().Set(rate=p.dropout_prob))
        count = p.num_lstm_layers - 1 if p.project_lstm_output else 0
        proj = layers.handed(p, 'proj_tpl', input_dim=output_dim, output_dim=output_dim)
        self.CreateChildren('proj', [proj] * count)
        norm = layers.handed(p, 'batch_norm', model_dim=output_dim)
        self.CreateChildren('proj_norm', [norm] * count)

    def _Conv(self, template: str, shape: Sequence[int], stride: Sequence[int]) -> Any:
        """Params of a convolution of these sizes."""
        p = self.params.Get(template).Copy()
        p.conv = layers.handed(p, 'conv', filter_shape=tuple(shape), filter_stride=tuple(stride))
        return p


def unfold(
    x: tf.Tensor, paddings: tf.Tensor, frequency: int, channels: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Frames as images.

    With n = features / (frequency * channels), a frame becomes n frames, each of which is
    `channels` times `frequency` features, side by side.

    Args:
      x: [batch, time, features].
      paddings: [batch, time].
      frequency, channels: Python ints.

    Returns:
      [batch, n * time, frequency, channels], and its paddings.

    Raises:
      ValueError: if there is no such n.
    """
    features = x.shape[2]
    if features % (frequency * channels):
        raise ValueError(
            f'Frames of {features} features cannot be {frequency} frequencies x {channels} '
            'channels. Check encoder.input_shape and the front end.'
        )
    n = features // (frequency * channels)
    batch, time = tf.unstack(tf.shape(paddings))
    # [batch, n * time, channels, frequency] -> [batch, n * time, frequency, channels]
    x = tf.reshape(x, [batch, n * time, channels, frequency])
    x = tf.transpose(x, [0, 1, 3, 2])
    return x, tf.repeat(paddings, n, axis=1) if n > 1 else paddings
