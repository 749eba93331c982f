"""Attention without a loop, and the Transformer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lingvo_lite.layers import attention, norm, transformer
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.testing.layer_cases.calls import (
    LOOKING,
    LOOKING_PADDED,
    PADDED,
    Padded,
    StepByStep,
    Steps,
)
from lingvo_lite.testing.layer_cases.case import DIM, Case

HEADS = {'model_dim': DIM, 'num_heads': 2}
RATES = {
    'residual_dropout_prob': 0.25,
    'atten_dropout_prob': 0.25,
    'relu_dropout_prob': 0.25,
}
# gelu, because a relu that flips at a rounding error says nothing about low precision.
_LAYER = {**HEADS, **RATES, 'hidden_dim': 12, 'feedforward.activation': 'gelu'}
_STACK: dict[str, Any] = {**HEADS, **RATES, 'hidden_dim': 12, 'num_layers': 2}
_STACK['layer.feedforward.activation'] = 'gelu'


def _SelfAttention(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, attention.causal_mask(inputs.paddings)))


def _CrossAttention(layer: Any, inputs: NestedMap) -> NestedMap:
    mask = attention.padding_mask(inputs.source_paddings)
    return NestedMap(by_time=layer(inputs.x, layer.Memory(inputs.source), mask))


def _EncoderLayer(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, attention.padding_mask(inputs.paddings)))


def _DecoderLayer(layer: Any, inputs: NestedMap) -> NestedMap:
    masks = attention.causal_mask(inputs.paddings), attention.padding_mask(inputs.source_paddings)
    return NestedMap(by_time=layer(inputs.x, masks[0], inputs.source, masks[1]))


def _DecoderLayerSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    cache, memory = layer.InitStates(inputs.source)
    mask = attention.padding_mask(inputs.source_paddings)

    def Extend(x: tf.Tensor, cache: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        y, cache, _ = layer.ExtendStep(x, cache, memory, mask)
        return y, cache

    return StepByStep(inputs.x, cache, Extend)


def _Decoder(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(
        by_time=layer(inputs.x, inputs.paddings, inputs.source, inputs.source_paddings)
    )


def _DecoderSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    state = layer.InitStates(inputs.source, inputs.source_paddings)
    return StepByStep(inputs.x, state, layer.ExtendStep)


_ATTENTION = attention.SelfAttention.Params().Set(**HEADS)
_ENCODER = transformer.TransformerEncoder.Params().Set(**_STACK)
_DECODER = transformer.TransformerDecoder.Params().Set(**_STACK)

CASES = [
    Case('SelfAttention', _ATTENTION, PADDED, _SelfAttention, Steps),
    Case(
        'SelfAttention-rotary',
        _ATTENTION.Copy().Set(rotary=True, atten_dropout_prob=0.25),
        PADDED,
        _SelfAttention,
        Steps,
    ),
    Case(
        'CrossAttention',
        attention.CrossAttention.Params().Set(**HEADS, atten_dropout_prob=0.25),
        LOOKING,
        _CrossAttention,
    ),
    Case(
        'TransformerEncoderLayer',
        transformer.TransformerEncoderLayer.Params().Set(**_LAYER),
        PADDED,
        _EncoderLayer,
    ),
    Case(
        'TransformerDecoderLayer',
        transformer.TransformerDecoderLayer.Params().Set(**_LAYER),
        LOOKING_PADDED,
        _DecoderLayer,
        _DecoderLayerSteps,
    ),
    Case('TransformerEncoder', _ENCODER, PADDED, Padded),
    Case(
        'TransformerEncoder-post-rms-remat',
        _ENCODER.Copy().Set(pre_norm=False, remat=True, norm=norm.RmsNorm.Params()),
        PADDED,
        Padded,
    ),
    Case('TransformerDecoder', _DECODER, LOOKING_PADDED, _Decoder, _DecoderSteps),
    Case(
        'TransformerDecoder-post-remat',
        _DECODER.Copy().Set(pre_norm=False, remat=True),
        LOOKING_PADDED,
        _Decoder,
        _DecoderSteps,
    ),
]
