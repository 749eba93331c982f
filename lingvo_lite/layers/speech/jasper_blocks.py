"""Blocks of 1-D convolutions: Wave2Letter+, Jasper, QuartzNet.

(Collobert et al., arXiv 1609.03193; Li et al., arXiv 1904.03288; Kriman et al., arXiv 1910.10261.)

They differ in what is added to a block's last convolution before the activation: nothing, the
block's input, or the inputs of all blocks so far; and in the convolution, which is separable in
QuartzNet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import REQUIRED, Self
from lingvo_lite.layers import base, batch_norm, conv, dropout, feedforward

ACTIVATIONS = {
    **feedforward.ACTIVATIONS,
    'clipped_relu': lambda x: tf.minimum(tf.nn.relu(x), tf.constant(20.0, x.dtype)),
}


class ConvBlock(base.BaseLayer):
    """y = dropout(f(batch_norm(conv(x)) + residual)).

    x: [batch, time, ...] -> y: [batch, ceil(time / stride), ..., channels], with a convolution over
    time, or over time and frequency.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define(
            'conv',
            conv.Conv1D.Params().Set(use_bias=False),
            'The convolution; it needs no bias, since the batch norm has one.',
            bound=base.BaseLayer,
        )
        p.Define('batch_norm', batch_norm.BatchNorm.Params(), 'The batch norm.')
        p.Define('activation', 'relu', 'f.', choices=sorted(ACTIVATIONS))
        p.Define('dropout_prob', 0.0, 'Dropout rate.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateChild('conv', p.conv)
        dim = self.conv.output_dim
        self.CreateChild('batch_norm', base.handed(p, 'batch_norm', model_dim=dim))
        self.CreateChild('dropout', dropout.Dropout.Params().Set(rate=p.dropout_prob))

    @property
    def output_dim(self) -> int:
        """Number of channels of the output."""
        return int(self.conv.output_dim)

    def FProp(
        self, x: tf.Tensor, paddings: tf.Tensor, residual: Optional[tf.Tensor] = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes y.

        Args:
          x: [batch, time, ...].
          paddings: [batch, time].
          residual: of the shape of y; None for nothing.

        Returns:
          y, and its paddings.
        """
        y, paddings = self.conv(x, paddings)
        y = self.batch_norm(y, paddings)
        if residual is not None:
            y += residual
        return self.dropout(ACTIVATIONS[self.params.activation](y)), paddings


class _Projection(base.BaseLayer):
    """batch_norm(x w): [batch, time, input_dim] -> [batch, time, output_dim]."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Number of channels of the input.', type=int)
        p.Define('output_dim', REQUIRED, 'Number of channels of the output.', type=int)
        p.Define('batch_norm', batch_norm.BatchNorm.Params(), 'The batch norm.')
        return p

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        self.CreateVariable('w', base.Weight([1, p.input_dim, p.output_dim]))
        self.CreateChild('batch_norm', base.handed(p, 'batch_norm', model_dim=p.output_dim))

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tf.Tensor:
        y = tf.nn.conv1d(tf.cast(x, self.dtype), self.theta.w, 1, 'VALID')
        return self.batch_norm(y, paddings)


class DenseBlock(base.BaseLayer):
    """Several ConvBlocks, with sum_i batch_norm(r_i w_i) added inside the last.

    x: [batch, time, input_dim] -> y: [batch, ceil(time / stride), output_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Number of channels of the input.', type=int)
        p.Define('output_dim', REQUIRED, 'Number of channels of all convolutions.', type=int)
        p.Define('kernel_size', REQUIRED, 'Of all convolutions, in frames.', type=int)
        p.Define('num_repeats', 1, 'Number of convolutions.')
        p.Define('stride', 1, 'Of the first convolution.')
        p.Define('dilation', 1, 'Of all convolutions.')
        p.Define('activation', 'relu', 'f of all ConvBlocks.', choices=sorted(ACTIVATIONS))
        p.Define('dropout_prob', 0.0, 'Dropout rate of all ConvBlocks.')
        p.Define(
            'residual',
            'none',
            'What is added: nothing; the own input; or, dense, this and the inputs of all dense '
            'blocks in front of it.',
            choices=['none', 'own', 'dense'],
        )
        p.Define(
            'conv',
            conv.Conv1D.Params().Set(use_bias=False),
            'The convolutions: Conv1D or SeparableConv1D.',
            bound=base.BaseLayer,
        )
        p.Define('batch_norm', batch_norm.BatchNorm.Params(), 'The batch norms.')
        p.Define('residual_dims', (), 'Channels of each r_i; DenseBlocks sets it.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        hyperparams.RequireRange(p, 'num_repeats', at_least=1)
        if p.residual != 'none':
            hyperparams.RequireRange(
                p, 'stride', at_most=1, note=f'in a block with residual={p.residual!r}'
            )

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        p = self.params
        blocks = []
        for i in range(p.num_repeats):
            layer = base.handed(
                p,
                'conv',
                'kernel_size',
                'dilation',
                'output_dim',
                input_dim=p.output_dim if i else p.input_dim,
                stride=1 if i else p.stride,
            )
            block = ConvBlock.Params().Set(conv=layer, batch_norm=p.batch_norm)
            blocks.append(block.Set(activation=p.activation, dropout_prob=p.dropout_prob))
        self.CreateChildren('blocks', blocks)
        projection = _Projection.Params().Set(output_dim=p.output_dim, batch_norm=p.batch_norm)
        dims = p.residual_dims
        self.CreateChildren('projections', [projection.Copy().Set(input_dim=n) for n in dims])

    def FProp(
        self, x: tf.Tensor, paddings: tf.Tensor, residuals: Sequence[tf.Tensor] = ()
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes y.

        Args:
          x: [batch, time, input_dim].
          paddings: [batch, time].
          residuals: r_i, [batch, time, residual_dims[i]].

        Returns:
          y, and its paddings.
        """
        if len(residuals) != len(self.projections):
            raise ValueError(
                f'{self.path}: {len(residuals)} residuals, but residual_dims has '
                f'{len(self.projections)}.'
            )
        for block in self.blocks[:-1]:
            x, paddings = block(x, paddings)
        total = None
        for r, projection in zip(residuals, self.projections):
            y = projection(r, paddings)
            total = y if total is None else total + y
        return self.blocks[-1](x, paddings, total)


class DenseBlocks(base.BaseLayer):
    """DenseBlocks one behind the other, which get the inputs of those in front as residuals.

    x: [batch, time, input_dim] -> y: [batch, ceil(time / strides), output_dim].
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        p = super().Params()
        p.Define('input_dim', REQUIRED, 'Number of channels of the input.', type=int)
        p.Define('blocks', REQUIRED, 'One for each block.', type=list, bound=DenseBlock)
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        dense = False
        for i, block in enumerate(p.blocks):
            if dense and block.stride > 1:
                raise hyperparams.Fail(
                    p,
                    f'blocks[{i}] has stride={block.stride}, but a dense block stands in front of '
                    'it, whose input is longer. Put strides in front of the dense blocks.',
                    'blocks',
                )
            dense |= block.residual == 'dense'

    def __init__(self, params: hyperparams.Params):
        super().__init__(params)
        blocks, dim, dense = [], self.params.input_dim, ()
        for block in self.params.blocks:
            dense += (dim,) if block.residual == 'dense' else ()
            dims = {'none': (), 'own': (dim,), 'dense': dense}[block.residual]
            blocks.append(block.Copy().Set(input_dim=dim, residual_dims=dims))
            dim = block.output_dim
        self.CreateChildren('blocks', blocks)
        self.output_dim = dim

    @property
    def time_stride(self) -> int:
        """Frames of the input for each of the output."""
        return math.prod(block.stride for block in self.params.blocks)

    def FProp(self, x: tf.Tensor, paddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """paddings: [batch, time]. Returns y, and its paddings."""
        dense: list[tf.Tensor] = []
        for block in self.blocks:
            dense += [x] if block.params.residual == 'dense' else []
            residuals = {'none': [], 'own': [x], 'dense': dense}[block.params.residual]
            x, paddings = block(x, paddings, residuals)
        return x, paddings
