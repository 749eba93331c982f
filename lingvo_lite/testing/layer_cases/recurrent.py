"""Layers of layers/recurrent/."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lingvo_lite.layers.recurrent import attention, cells, conv_lstm, monotonic_attention, rnn
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.testing.layer_cases.calls import (
    LOOKING,
    PADDED,
    Flat,
    Images,
    Padded,
    StepByStep,
    Steps,
)
from lingvo_lite.testing.layer_cases.case import DIM, Case


def _Cell(layer: Any, inputs: NestedMap) -> NestedMap:
    y, state = layer(inputs.x[:, 0], layer.InitStates(tf.shape(inputs.x)[0]))
    y, _ = layer(inputs.x[:, 0], state)
    return NestedMap(by_time=y[:, tf.newaxis], paddings=inputs.paddings[:, :1])


def _ConvLSTM(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=Flat(layer(Images(inputs.x), inputs.paddings)))


def _ConvLSTMSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    state = layer.InitStates(tf.shape(inputs.x)[0], DIM // 2)
    return Flat(StepByStep(Images(inputs.x), state, layer.ExtendStep))


def _Attention(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, inputs.source, inputs.source_paddings))


def _AttentionSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    memory = layer.Memory(inputs.source, inputs.source_paddings)

    def Extend(query: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        y, _, state = layer.ExtendStep(query, memory, state)
        return y, state

    return StepByStep(inputs.x, layer.InitStates(memory), Extend)


_SIZES = {'input_dim': DIM, 'cell_dim': 6}
_LSTM = cells.LSTMCell.Params().Set(**_SIZES)
_SPECIAL = _LSTM.Copy().Set(layer_norm=True, projection_dim=5, zoneout_prob=0.25)
_GRU = cells.GRUCell.Params().Set(**_SIZES)
_STACK = {'input_dim': DIM, 'num_layers': 2, 'cell.cell_dim': 6, 'dropout_prob': 0.25}
_CONV_LSTM = conv_lstm.ConvLSTM.Params().Set(input_dim=2, cell_dim=3)
_DIMS = {'source_dim': DIM, 'query_dim': DIM, 'hidden_dim': 6}
_ADDITIVE = attention.AdditiveAttention.Params().Set(**_DIMS)
_LOCATED = attention.LocationSensitiveAttention.Params().Set(
    **_DIMS, location_filters=2, location_kernel_size=3
)
_ATTENTIONS = {
    'DotAttention': attention.DotAttention.Params().Set(**_DIMS),
    'AdditiveAttention': _ADDITIVE,
    'AdditiveAttention-normalized': _ADDITIVE.Copy().Set(normalized=True),
    'LocationSensitiveAttention': _LOCATED,
    'LocationSensitiveAttention-last': _LOCATED.Copy().Set(cumulative=False),
    'MonotonicAttention': monotonic_attention.MonotonicAttention.Params().Set(
        **_DIMS, bias=0.0, hard=False, sigmoid_noise=0.1
    ),
}

CASES = [
    *(
        Case(name, p, PADDED, _Cell, draws=p.zoneout_prob > 0)
        for name, p in (('LSTMCell', _LSTM), ('LSTMCell-special', _SPECIAL), ('GRUCell', _GRU))
    ),
    Case('RNN-lstm', rnn.RNN.Params().Set(cell=_LSTM), PADDED, Padded, Steps),
    Case(
        'RNN-lstm-special',
        rnn.RNN.Params().Set(cell=_SPECIAL),
        PADDED,
        Padded,
        Steps,
        draws=True,
    ),
    Case('RNN-gru-reverse', rnn.RNN.Params().Set(cell=_GRU, reverse=True), PADDED, Padded),
    Case('BidirectionalRNN', rnn.BidirectionalRNN.Params().Set(cell=_LSTM), PADDED, Padded),
    Case('StackedRNN', rnn.StackedRNN.Params().Set(**_STACK), PADDED, Padded, Steps),
    Case(
        'StackedBidirectionalRNN',
        rnn.StackedBidirectionalRNN.Params().Set(**_STACK),
        PADDED,
        Padded,
    ),
    Case('ConvLSTM', _CONV_LSTM, PADDED, _ConvLSTM, _ConvLSTMSteps),
    Case('ConvLSTM-reverse', _CONV_LSTM.Copy().Set(reverse=True), PADDED, _ConvLSTM),
    *(
        Case(name, p, LOOKING, _Attention, _AttentionSteps, draws='Monotonic' in name)
        for name, p in _ATTENTIONS.items()
    ),
]
