"""Conformer block (Gulati et al., arXiv 2005.08100)."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import (
    attention,
    base,
    batch_norm,
    conv,
    dropout,
    feedforward,
    linear,
    norm,
)


class ConvolutionModule(base.BaseLayer):
    """Pointwise, GLU, depthwise, batch norm, swish, pointwise (section 2.2).

    With [a, g] = x w1 + b1:   y = swish(batch_norm(depthwise(a * sigmoid(g)))) w2 + b2.

    x: [batch, time, model_dim] -> y: the same. (The layer norm in front, and the dropout and the
    residual connection behind, are ConformerBlock's.)
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis of input and output.', type=int)
        p.Define('kernel_size', 31, 'Frames that the depthwise convolution looks at.')
        p.Define('batch_norm', batch_norm.BatchNorm.Params(), 'The batch norm.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        dim = p.model_dim
        depthwise = conv.DepthwiseConv1D.Params().Set(
            input_dim=dim, kernel_size=p.kernel_size, use_bias=False
        )
        self.CreateChild('up', linear.Linear.Params().Set(input_dim=dim, output_dim=2 * dim))
        self.CreateChild('depthwise', depthwise)
        self.CreateChild('batch_norm', base.handed(p, 'batch_norm', 'model_dim'))
        self.CreateChild('down', linear.Linear.Params().Set(input_dim=dim, output_dim=dim))

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """paddings: [batch, time]."""
        a, g = tf.split(self.up(x), 2, axis=-1)
        y, _ = self.depthwise(a * tf.sigmoid(g), paddings)
        return self.down(tf.nn.silu(self.batch_norm(y, paddings)))


class ConformerBlock(base.BaseLayer):
    """Half a feed-forward part, attention, convolution, half a feed-forward part, norm.

        x = x + f(norm(x)) / 2
        x = x + attention(norm(x))
        x = x + convolution(norm(x))
        y = norm(x + f'(norm(x)) / 2)                                       (equation 1)

    each part with dropout. Positions are rotary (Su et al., arXiv 2104.09864) where the paper has
    the relative ones of Transformer-XL.

    x: [batch, time, model_dim] -> y: the same.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis of input and output.', type=int)
        p.Define('num_heads', REQUIRED, 'Heads of the attention.', type=int)
        p.Define('hidden_dim', REQUIRED, "Size of the hidden layer of f and of f'.", type=int)
        p.Define('residual_dropout_prob', 0.0, 'Dropout rate of what each part adds.')
        p.Define('atten_dropout_prob', 0.0, 'Dropout rate of the attention probabilities.')
        p.Define('relu_dropout_prob', 0.0, "Dropout rate of the hidden layers of f and of f'.")
        feed = feedforward.FeedForward.Params().Set(activation='swish')
        p.Define('feedforward', feed, "f, and f'.")
        p.Define('attention', attention.SelfAttention.Params().Set(rotary=True), 'The attention.')
        p.Define('convolution', ConvolutionModule.Params(), 'The convolution.')
        p.Define('norm', norm.LayerNorm.Params(), 'The norms.', bound=base.BaseLayer)
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        rate = p.residual_dropout_prob
        self.CreateChild('residual_dropout', dropout.Dropout.Params().Set(rate=rate))
        feed = base.handed(p, 'feedforward', 'model_dim', 'hidden_dim', 'relu_dropout_prob')
        attend = base.handed(p, 'attention', 'model_dim', 'num_heads', 'atten_dropout_prob')
        parts = {
            'feedforward_start': feed,
            'attention': attend,
            'convolution': base.handed(p, 'convolution', 'model_dim'),
            'feedforward_end': feed,
        }
        for name, part in parts.items():
            self.CreateChild(f'{name}_norm', base.handed(p, 'norm', 'model_dim'))
            self.CreateChild(name, part)
        self.CreateChild('final_norm', base.handed(p, 'norm', 'model_dim'))

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        """paddings: [batch, time]."""
        drop = self.residual_dropout
        mask = attention.padding_mask(paddings)
        x = tf.cast(x, self.dtype)
        x += 0.5 * drop(self.feedforward_start(self.feedforward_start_norm(x)))
        x += drop(self.attention(self.attention_norm(x), mask))
        x += drop(self.convolution(self.convolution_norm(x), paddings))
        x += 0.5 * drop(self.feedforward_end(self.feedforward_end_norm(x)))
        return self.final_norm(x)
