"""Blocks of convolutions. Padding, company and low precision: test_conformance.py."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams
from lingvo_lite.layers import base, conv
from lingvo_lite.layers.speech import jasper_blocks

_X = np.random.default_rng(0).normal(size=[2, 6, 4]).astype(np.float32)


def _Block(**kwargs):
    return jasper_blocks.DenseBlock.Params().Set(kernel_size=3, **kwargs)


def _Blocks(*blocks, input_dim=4):
    return jasper_blocks.DenseBlocks.Params().Set(input_dim=input_dim, blocks=list(blocks))


def test_conv_block(inference_step):
    p = jasper_blocks.ConvBlock.Params().Set(activation='clipped_relu')
    p.conv.Set(input_dim=4, output_dim=5, kernel_size=3, stride=2)
    layer = p.Instantiate()
    layer.batch_norm.vars.scale.assign(tf.fill([5], 30.0))
    x, zeros = tf.constant(_X), tf.zeros([2, 6])
    y, paddings = layer(x, zeros, residual=tf.ones([2, 3, 5]))
    between = layer.batch_norm(layer.conv(x, zeros)[0], tf.zeros([2, 3])) + 1
    np.testing.assert_allclose(y, np.clip(between, 0, 20), atol=1e-4)
    assert (y.numpy() == 20).any() and paddings.shape == [2, 3] and layer.output_dim == 5


def test_the_residual_is_added_inside_of_the_last_convolution(inference_step):
    p = _Block(input_dim=4, output_dim=5, num_repeats=2, residual='own', residual_dims=(4,))
    layer = p.Instantiate()
    x, zeros = tf.constant(_X), tf.zeros([2, 6])
    first, _ = layer.blocks[0](x, zeros)
    added = (x @ layer.projections[0].vars.w[0]) / np.sqrt(1 + 1e-3)
    wanted, _ = layer.blocks[1](first, zeros, added)
    np.testing.assert_allclose(layer(x, zeros, [x])[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    'residual, wanted', [('none', [0, 0, 0]), ('own', [1, 1, 1]), ('dense', [1, 2, 3])]
)
def test_what_each_block_gets(inference_step, residual, wanted):
    blocks = [_Block(output_dim=n, residual=residual) for n in (5, 6, 7)]
    layer = _Blocks(*blocks).Instantiate()
    assert [len(block.projections) for block in layer.blocks] == wanted
    assert layer(tf.constant(_X), tf.zeros([2, 6]))[0].shape == [2, 6, 7]
    assert layer.output_dim == 7
    if residual == 'dense':
        assert [p.params.input_dim for p in layer.blocks[2].projections] == [4, 5, 6]


def test_only_the_first_convolution_has_the_stride(inference_step):
    layer = _Blocks(_Block(output_dim=5, num_repeats=3, stride=2)).Instantiate()
    y, paddings = layer(tf.constant(_X), tf.constant([[0.0] * 6, [0.0] * 3 + [1.0] * 3]))
    assert y.shape == [2, 3, 5]
    np.testing.assert_array_equal(paddings, [[0, 0, 0], [0, 0, 1]])


def test_a_stride_behind_a_dense_block_is_an_error():
    p = _Blocks(_Block(output_dim=5, residual='dense'), _Block(output_dim=5, stride=2))
    with pytest.raises(hyperparams.ConfigError, match=r'blocks\[1\] has stride=2, but a dense'):
        p.Instantiate()


def test_a_residual_with_a_stride_is_an_error():
    p = _Block(input_dim=4, output_dim=5, stride=2, residual='own')
    with pytest.raises(hyperparams.ConfigError, match="must be at most 1 .*residual='own'"):
        p.Instantiate()


# Sizes of the published models (shared/reference/openseq2seq.md, 2.2), with their last layer of
# 29 tokens.
_WIDTHS = [(11, 256), (13, 384), (17, 512), (21, 640), (25, 768)]


def _Model(widths, repeats, convs, residual, end, separable=False):
    def Block(k, n, **kwargs):
        p = _Block(output_dim=n, **kwargs).Set(kernel_size=k)
        if separable:
            p.conv = conv.SeparableConv1D.Params().Set(use_bias=False)
        return p

    first = widths[0]
    body = [
        Block(k, n, num_repeats=convs, residual=residual) for k, n in widths for _ in range(repeats)
    ]
    (k, n), last = end
    p = _Block(output_dim=last).Set(kernel_size=1)
    blocks = [Block(*first, stride=2), *body, Block(k, n, dilation=2), p]
    with base.ShapesOnly():
        layer = _Blocks(*blocks, input_dim=64).Instantiate()
    return layer.NumParameters() + last * 29 + 29


@pytest.mark.parametrize(
    'args, millions',
    [
        ((_WIDTHS, 1, 3, 'none', ((29, 896), 1024)), 106.5),
        ((_WIDTHS, 2, 5, 'dense', ((29, 896), 1024)), 332.6),
        ((_WIDTHS, 2, 5, 'own', ((29, 896), 1024)), 322.3),
    ],
    ids=['Wave2Letter+', 'Jasper DR 10x5', 'Jasper 10x5'],
)
def test_parameters_of_published_models(args, millions):
    assert abs(_Model(*args) / 1e6 - millions) < 0.1


def test_parameters_of_quartznet():
    """QuartzNet 15x5 (arXiv 1910.10261, table 1): 18.9 million."""
    widths = [(33, 256), (39, 256), (51, 512), (63, 512), (75, 512)]
    count = _Model(widths, 3, 5, 'own', ((87, 512), 1024), separable=True)
    assert abs(count / 1e6 - 18.9) < 0.4
