"""The encoder of the Conformer (Gulati et al., arXiv 2005.08100)."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams, layers
from lingvo_lite.hyperparams import REQUIRED, Self

_STRIDE = 2


class ConformerEncoder(layers.BaseLayer):
    """Two convolutions that leave a fourth of the frames, a linear map, Conformer blocks (fig. 1).

    x: [batch, time, input_dim] -> [batch, ceil(time / 4), model_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Number of features.', type=int)
        p.Define('model_dim', REQUIRED, 'Size of the blocks; channels of the convolutions.', int)
        p.Define('num_layers', REQUIRED, 'Number of blocks.', type=int)
        p.Define('input_dropout_prob', 0.0, 'Dropout rate in front of the blocks.')
        p.Define('block', layers.ConformerBlock.Params(), 'Each block.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        convolutions, frequency = [], p.input_dim
        for channels in (1, p.model_dim):
            layer = layers.Conv2D.Params().Set(filter_stride=(_STRIDE, _STRIDE))
            convolutions.append(layer.Set(filter_shape=(3, 3, channels, p.model_dim)))
            frequency = -(-frequency // _STRIDE)
        self.CreateChildren('conv', convolutions)
        dims = {'input_dim': frequency * p.model_dim, 'output_dim': p.model_dim}
        self.CreateChild('linear', layers.Linear.Params().Set(**dims))
        self.CreateChild('dropout', layers.Dropout.Params().Set(rate=p.input_dropout_prob))
        self.CreateChildren('blocks', [layers.handed(p, 'block', 'model_dim')] * p.num_layers)

    @property
    def output_dim(self) -> int:
        """Size of the output."""
        return int(self.params.model_dim)

    @property
    def time_stride(self) -> int:
        """Frames of the input for each of the output."""
        return _STRIDE * _STRIDE

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """x: [batch, time, input_dim], paddings: [batch, time]. Returns y, and its paddings."""
        x = x[:, :, :, tf.newaxis]
        for layer in self.conv:
            x, paddings = layer(x, paddings)
            x = tf.nn.relu(x)
        # [batch, time, frequency, channels] -> [batch, time, frequency * channels]
        batch, time = tf.unstack(tf.shape(x)[:2])
        x = tf.reshape(x, [batch, time, x.shape[2] * x.shape[3]])
        x = self.dropout(self.linear(x))
        for block in self.blocks:
            x = block(x, paddings)
        return x, paddings
