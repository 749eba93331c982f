"""The feed-forward network of a Transformer layer."""

from __future__ import annotations

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base, dropout, linear

ACTIVATIONS = {
    'relu': tf.nn.relu,
    'gelu': lambda x: tf.nn.gelu(x, approximate=True),
    'swish': tf.nn.silu,
    'tanh': tf.tanh,
}


class FeedForward(base.BaseLayer):
    """y = dropout(f(x w1 + b1)) w2 + b2 (Vaswani et al., 2017, equation 2).

    x: [..., model_dim] -> y: [..., model_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('model_dim', REQUIRED, 'Size of the last axis of input and output.', type=int)
        p.Define('hidden_dim', REQUIRED, 'Size of the hidden layer.', type=int)
        p.Define('activation', 'relu', 'f.', choices=sorted(ACTIVATIONS))
        p.Define('relu_dropout_prob', 0.0, 'Dropout rate of the hidden layer.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        up = linear.Linear.Params().Set(input_dim=p.model_dim, output_dim=p.hidden_dim)
        down = linear.Linear.Params().Set(input_dim=p.hidden_dim, output_dim=p.model_dim)
        self.CreateChild('up', up)
        self.CreateChild('dropout', dropout.Dropout.Params().Set(rate=p.relu_dropout_prob))
        self.CreateChild('down', down)

    def FProp(self, x: tf.Tensor) -> tf.Tensor:
        hidden = ACTIVATIONS[self.params.activation](self.up(x))
        return self.down(self.dropout(hidden))
