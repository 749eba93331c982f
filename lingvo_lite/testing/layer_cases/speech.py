"""Layers of layers/speech/."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lingvo_lite.layers import conv
from lingvo_lite.layers.speech import conformer, ctc_loss, frontend, jasper_blocks, spec_augment
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.testing.layer_cases.attention import HEADS, RATES
from lingvo_lite.testing.layer_cases.calls import PADDED, Padded, Strided, Strided2D
from lingvo_lite.testing.layer_cases.case import DIM, Case, Field


def _Frontend(layer: Any, inputs: NestedMap) -> NestedMap:
    num_samples = tf.cast(tf.reduce_sum(1.0 - inputs.paddings, axis=1), tf.int32)
    y, paddings = layer(inputs.waveform, num_samples)
    return NestedMap(by_time=y, paddings=paddings)


def _CtcLoss(layer: Any, inputs: NestedMap) -> NestedMap:
    labels = 1 + inputs.labels % (DIM - 1)
    out = layer(inputs.x, inputs.paddings, labels, inputs.label_paddings)
    return NestedMap(by_example=out.per_example_loss)


_AUDIO = {'waveform': Field('waveform', 'samples'), 'paddings': Field('paddings', 'samples')}
# 25 and 10 samples to a window and a step.
_SOUND = {'sample_rate': 1000.0, 'normalization': 'per_utterance'}
_MEL = {**_SOUND, 'num_bins': 4, 'upper_edge_hertz': 500.0, 'fft_size': 64}
_BLOCK = jasper_blocks.DenseBlock.Params().Set(output_dim=6, kernel_size=3, activation='gelu')
_DENSE = _BLOCK.Copy().Set(num_repeats=2, residual='dense')
_OWN = _BLOCK.Copy().Set(
    num_repeats=2, residual='own', conv=conv.SeparableConv1D.Params().Set(use_bias=False)
)

CASES = [
    Case(
        'SpectrogramFrontend',
        frontend.SpectrogramFrontend.Params().Set(**_SOUND, num_bins=9, dither=0.1),
        _AUDIO,
        _Frontend,
        draws=True,
    ),
    Case(
        'MelAsrFrontend',
        frontend.MelAsrFrontend.Params().Set(**_MEL, stack_size=3, frame_stride=2),
        _AUDIO,
        _Frontend,
    ),
    Case(
        'MfccFrontend',
        frontend.MfccFrontend.Params().Set(**_MEL, num_cepstra=3),
        _AUDIO,
        _Frontend,
    ),
    Case(
        'SpectrumAugmenter',
        spec_augment.SpectrumAugmenter.Params().Set(
            freq_mask_count=1,
            freq_mask_max_bins=3,
            time_mask_count=2,
            time_mask_max_frames=2,
            time_warp_max_frames=1,
        ),
        PADDED,
        Padded,
        draws=True,
    ),
    Case(
        'ConvBlock',
        jasper_blocks.ConvBlock.Params().Set(
            conv=conv.Conv2D.Params().Set(filter_shape=(3, 3, 2, 5), filter_stride=(2, 1)),
            activation='gelu',
        ),
        PADDED,
        Strided2D,
    ),
    Case('DenseBlock', _BLOCK.Copy().Set(input_dim=DIM, stride=2), PADDED, Strided),
    Case(
        'DenseBlocks',
        jasper_blocks.DenseBlocks.Params().Set(input_dim=DIM, blocks=[_DENSE, _DENSE, _OWN]),
        PADDED,
        Strided,
    ),
    Case(
        'ConvolutionModule',
        conformer.ConvolutionModule.Params().Set(model_dim=DIM, kernel_size=3),
        PADDED,
        Padded,
    ),
    Case(
        'ConformerBlock',
        conformer.ConformerBlock.Params().Set(**HEADS, **RATES, hidden_dim=12),
        PADDED,
        Padded,
    ),
    Case(
        'CtcLoss',
        ctc_loss.CtcLoss.Params(),
        {
            **PADDED,
            'labels': Field('ids', 'labels'),
            'label_paddings': Field('paddings', 'labels'),
        },
        _CtcLoss,
    ),
]
