"""The list of all public layers, each with tiny Params, inputs, and how it is called.

The batch of each case has examples of several lengths: one whose vectors are zeros, one of length
1, and one that is all padding. What stands at paddings is noise. `MissingLayers` finds the layers
that are not in the list. The checks stand in `conformance`.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import tensorflow as tf

import lingvo_lite.layers
from lingvo_lite.layers import (
    attention,
    base,
    batch_norm,
    conv,
    dropout,
    embedding,
    feedforward,
    linear,
    norm,
    positions,
    softmax,
    transformer,
)
from lingvo_lite.layers.recurrent import attention as recurrent_attention, cells, conv_lstm, rnn
from lingvo_lite.layers.speech import conformer, ctc_loss, frontend, jasper_blocks, spec_augment
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.testing import public_classes

_DIM = 8
_VOCAB = 13
# Lengths of the examples along each axis; SOURCE is what a decoder looks at.
LENGTHS = {
    'time': (4, 1, 0, 5),
    'source': (3, 1, 0, 6),
    'labels': (2, 1, 0, 0),
    'samples': (90, 1, 0, 137),
}
# The example whose vectors are zeros.
ZEROS = 3


@dataclasses.dataclass(frozen=True)
class Field:
    """One input of a layer: a tensor [batch, axis, ...].

    Attributes:
      kind: 'vectors' ([batch, axis, _DIM]), 'ids', 'paddings', 'weights' or 'waveform' ([batch,
        axis]).
      axis: a key of LENGTHS.
    """

    kind: str
    axis: str = 'time'


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and how to call it.

    Attributes:
      name: of the test; the class, and what is special about its Params.
      params: of the layer.
      fields: {name: Field}, its inputs.
      call: (layer, inputs) -> NestedMap with `by_time`, [batch, time, ...], or `by_example`,
        [batch]; and, if `by_time` is of another length than the axis 'time', its `paddings`.
      steps: (layer, inputs) -> what `by_time` must be, computed position by position; None if
        there is no such way.
      draws: whether training has random draws, other than those of a layer Dropout.
    """

    name: str
    params: Any
    fields: dict[str, Field]
    call: Callable[[Any, NestedMap], NestedMap]
    steps: Optional[Callable[[Any, NestedMap], tf.Tensor]] = None
    draws: bool = False


def Vectors(layer: Any, inputs: NestedMap) -> NestedMap:
    """Calls a layer that takes vectors and nothing else."""
    return NestedMap(by_time=layer(inputs.x))


def _PositionSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    times = range(inputs.x.shape[1])
    return tf.concat([layer(inputs.x[:, t : t + 1], tf.constant(t)) for t in times], axis=1)


def _SelfAttention(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, attention.causal_mask(inputs.paddings)))


def _SelfAttentionSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    cache = layer.InitStates(tf.shape(inputs.x)[0])
    ys = []
    for t in range(inputs.x.shape[1]):
        y, cache = layer.ExtendStep(inputs.x[:, t], cache)
        ys.append(y)
    return tf.stack(ys, axis=1)


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
    ys = []
    for t in range(inputs.x.shape[1]):
        y, cache, _ = layer.ExtendStep(inputs.x[:, t], cache, memory, mask)
        ys.append(y)
    return tf.stack(ys, axis=1)


def _Encoder(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, inputs.paddings))


def _Decoder(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(
        by_time=layer(inputs.x, inputs.paddings, inputs.source, inputs.source_paddings)
    )


def _DecoderSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    state = layer.InitStates(inputs.source, inputs.source_paddings)
    ys = []
    for t in range(inputs.x.shape[1]):
        y, state = layer.ExtendStep(inputs.x[:, t], state)
        ys.append(y)
    return tf.stack(ys, axis=1)


def _Loss(layer: Any, inputs: NestedMap) -> NestedMap:
    out = layer(inputs.x, inputs.ids, inputs.weights)
    # [batch, time, padded vocabulary]
    logits = layer.Logits(tf.reshape(inputs.x, [-1, _DIM]))[:, :_VOCAB]
    logits = tf.reshape(logits, tf.concat([tf.shape(inputs.ids), [_VOCAB]], axis=0))
    return NestedMap(by_time=logits, by_example=out.per_example_loss)


def _Conv(layer: Any, inputs: NestedMap) -> NestedMap:
    y, paddings = layer(inputs.x, inputs.paddings)
    return NestedMap(by_time=y, paddings=paddings)


def _Conv2D(layer: Any, inputs: NestedMap) -> NestedMap:
    # [batch, time, dim] -> [batch, time, frequency, channels]
    shape = tf.shape(inputs.x)
    x = tf.reshape(inputs.x, [shape[0], shape[1], _DIM // 2, 2])
    y, paddings = layer(x, inputs.paddings)
    # [batch, time, frequency, channels] -> [batch, time, frequency * channels]
    y = tf.reshape(y, [shape[0], tf.shape(y)[1], y.shape[2] * y.shape[3]])
    return NestedMap(by_time=y, paddings=paddings)


def _Frontend(layer: Any, inputs: NestedMap) -> NestedMap:
    num_samples = tf.cast(tf.reduce_sum(1.0 - inputs.paddings, axis=1), tf.int32)
    y, paddings = layer(inputs.waveform, num_samples)
    return NestedMap(by_time=y, paddings=paddings)


def _CtcLoss(layer: Any, inputs: NestedMap) -> NestedMap:
    labels = 1 + inputs.labels % (_DIM - 1)
    out = layer(inputs.x, inputs.paddings, labels, inputs.label_paddings)
    return NestedMap(by_example=out.per_example_loss)


def _RnnSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    state = layer.InitStates(tf.shape(inputs.x)[0])
    ys = []
    for t in range(inputs.x.shape[1]):
        y, state = layer.ExtendStep(inputs.x[:, t], state)
        ys.append(y)
    return tf.stack(ys, axis=1)


def _Cell(layer: Any, inputs: NestedMap) -> NestedMap:
    y, state = layer(inputs.x[:, 0], layer.InitStates(tf.shape(inputs.x)[0]))
    y, _ = layer(inputs.x[:, 0], state)
    return NestedMap(by_time=y[:, tf.newaxis], paddings=inputs.paddings[:, :1])


def _Images(x: tf.Tensor) -> tf.Tensor:
    """[..., dim] -> [..., frequency, channels]."""
    return tf.reshape(x, tf.concat([tf.shape(x)[:-1], [_DIM // 2, 2]], axis=0))


def _ConvLSTM(layer: Any, inputs: NestedMap) -> NestedMap:
    y = layer(_Images(inputs.x), inputs.paddings)
    # [batch, time, frequency, channels] -> [batch, time, frequency * channels]
    shape = tf.shape(y)
    return NestedMap(by_time=tf.reshape(y, [shape[0], shape[1], y.shape[2] * y.shape[3]]))


def _ConvLSTMSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    images = _Images(inputs.x)
    state = layer.InitStates(tf.shape(images)[0], _DIM // 2)
    ys = []
    for t in range(inputs.x.shape[1]):
        y, state = layer.ExtendStep(images[:, t], state)
        ys.append(tf.reshape(y, [tf.shape(y)[0], y.shape[1] * y.shape[2]]))
    return tf.stack(ys, axis=1)


def _Attention(layer: Any, inputs: NestedMap) -> NestedMap:
    return NestedMap(by_time=layer(inputs.x, inputs.source, inputs.source_paddings))


def _AttentionSteps(layer: Any, inputs: NestedMap) -> tf.Tensor:
    memory = layer.Memory(inputs.source, inputs.source_paddings)
    state = layer.InitStates(memory)
    ys = []
    for t in range(inputs.x.shape[1]):
        y, _, state = layer.ExtendStep(inputs.x[:, t], memory, state)
        ys.append(y)
    return tf.stack(ys, axis=1)


_X = {'x': Field('vectors')}
_OWN = {**_X, 'paddings': Field('paddings')}
_BOTH = {
    **_OWN,
    'source': Field('vectors', 'source'),
    'source_paddings': Field('paddings', 'source'),
}
_RATES = {
    'residual_dropout_prob': 0.25,
    'atten_dropout_prob': 0.25,
    'relu_dropout_prob': 0.25,
}
_HEADS = {'model_dim': _DIM, 'num_heads': 2}
# gelu, because a relu that flips at a rounding error says nothing about low precision.
_LAYER = {**_HEADS, **_RATES, 'hidden_dim': 12, 'feedforward.activation': 'gelu'}
_STACK: dict[str, Any] = {**_HEADS, **_RATES, 'hidden_dim': 12, 'num_layers': 2}
_STACK['layer.feedforward.activation'] = 'gelu'


def _Cases() -> list[Case]:
    feed = feedforward.FeedForward.Params().Set(model_dim=_DIM, hidden_dim=12)
    self_attention = attention.SelfAttention.Params().Set(**_HEADS)
    encoder = transformer.TransformerEncoder.Params().Set(**_STACK)
    decoder = transformer.TransformerDecoder.Params().Set(**_STACK)
    return [
        Case(
            'Linear',
            linear.Linear.Params().Set(input_dim=_DIM, output_dim=5),
            _X,
            Vectors,
        ),
        Case(
            'Embedding',
            embedding.Embedding.Params().Set(
                vocab_size=_VOCAB, model_dim=_DIM, scale_sqrt_depth=True
            ),
            {'ids': Field('ids')},
            lambda layer, inputs: NestedMap(by_time=layer(inputs.ids)),
        ),
        Case(
            'Sinusoid',
            positions.Sinusoid.Params().Set(model_dim=_DIM),
            _X,
            Vectors,
            _PositionSteps,
        ),
        Case(
            'LearnedPositions',
            positions.LearnedPositions.Params().Set(model_dim=_DIM, max_positions=16),
            _X,
            Vectors,
            _PositionSteps,
        ),
        Case('LayerNorm', norm.LayerNorm.Params().Set(model_dim=_DIM), _X, Vectors),
        Case('RmsNorm', norm.RmsNorm.Params().Set(model_dim=_DIM), _X, Vectors),
        Case('Dropout', dropout.Dropout.Params().Set(rate=0.25), _X, Vectors),
        *(
            Case(f'FeedForward-{name}', feed.Copy().Set(activation=name), _X, Vectors)
            for name in feedforward.ACTIVATIONS
        ),
        Case('SelfAttention', self_attention, _OWN, _SelfAttention, _SelfAttentionSteps),
        Case(
            'SelfAttention-rotary',
            self_attention.Copy().Set(rotary=True, atten_dropout_prob=0.25),
            _OWN,
            _SelfAttention,
            _SelfAttentionSteps,
        ),
        Case(
            'CrossAttention',
            attention.CrossAttention.Params().Set(**_HEADS, atten_dropout_prob=0.25),
            {k: v for k, v in _BOTH.items() if k != 'paddings'},
            _CrossAttention,
        ),
        Case(
            'TransformerEncoderLayer',
            transformer.TransformerEncoderLayer.Params().Set(**_LAYER),
            _OWN,
            _EncoderLayer,
        ),
        Case(
            'TransformerDecoderLayer',
            transformer.TransformerDecoderLayer.Params().Set(**_LAYER),
            _BOTH,
            _DecoderLayer,
            _DecoderLayerSteps,
        ),
        Case('TransformerEncoder', encoder, _OWN, _Encoder),
        Case(
            'TransformerEncoder-post-rms-remat',
            encoder.Copy().Set(pre_norm=False, remat=True, norm=norm.RmsNorm.Params()),
            _OWN,
            _Encoder,
        ),
        Case('TransformerDecoder', decoder, _BOTH, _Decoder, _DecoderSteps),
        Case(
            'TransformerDecoder-post-remat',
            decoder.Copy().Set(pre_norm=False, remat=True),
            _BOTH,
            _Decoder,
            _DecoderSteps,
        ),
        Case(
            'SoftmaxLoss',
            softmax.SoftmaxLoss.Params().Set(
                vocab_size=_VOCAB, model_dim=_DIM, label_smoothing=0.1
            ),
            {**_X, 'ids': Field('ids'), 'weights': Field('weights')},
            _Loss,
        ),
        *_SpeechCases(),
        *_RecurrentCases(),
    ]


def _SpeechCases() -> list[Case]:
    audio = {'waveform': Field('waveform', 'samples'), 'paddings': Field('paddings', 'samples')}
    # 25 and 10 samples to a window and a step.
    sound = {'sample_rate': 1000.0, 'normalization': 'per_utterance'}
    mel = {**sound, 'num_bins': 4, 'upper_edge_hertz': 500.0, 'fft_size': 64}
    one = {'input_dim': _DIM, 'kernel_size': 3}
    block = jasper_blocks.DenseBlock.Params().Set(output_dim=6, kernel_size=3, activation='gelu')
    dense = block.Copy().Set(num_repeats=2, residual='dense')
    own = block.Copy().Set(num_repeats=2, residual='own', conv=conv.SeparableConv1D.Params())
    own.conv.use_bias = False
    return [
        Case(
            'SpectrogramFrontend',
            frontend.SpectrogramFrontend.Params().Set(**sound, num_bins=9, dither=0.1),
            audio,
            _Frontend,
            draws=True,
        ),
        Case(
            'MelAsrFrontend',
            frontend.MelAsrFrontend.Params().Set(**mel, stack_size=3, frame_stride=2),
            audio,
            _Frontend,
        ),
        Case(
            'MfccFrontend',
            frontend.MfccFrontend.Params().Set(**mel, num_cepstra=3),
            audio,
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
            _OWN,
            lambda layer, inputs: NestedMap(by_time=layer(inputs.x, inputs.paddings)),
            draws=True,
        ),
        Case('Conv1D', conv.Conv1D.Params().Set(**one, output_dim=5, stride=2), _OWN, _Conv),
        Case(
            'Conv1D-dilated',
            conv.Conv1D.Params().Set(**one, output_dim=5, dilation=3),
            _OWN,
            _Conv,
        ),
        Case(
            'DepthwiseConv1D',
            conv.DepthwiseConv1D.Params().Set(input_dim=_DIM, kernel_size=4, stride=2),
            _OWN,
            _Conv,
        ),
        Case(
            'SeparableConv1D-dilated',
            conv.SeparableConv1D.Params().Set(**one, output_dim=5, dilation=2),
            _OWN,
            _Conv,
        ),
        Case(
            'Conv2D',
            conv.Conv2D.Params().Set(filter_shape=(3, 3, 2, 5), filter_stride=(2, 2)),
            _OWN,
            _Conv2D,
        ),
        Case('BatchNorm', batch_norm.BatchNorm.Params().Set(model_dim=_DIM), _OWN, _Encoder),
        Case(
            'ConvBlock',
            jasper_blocks.ConvBlock.Params().Set(
                conv=conv.Conv2D.Params().Set(filter_shape=(3, 3, 2, 5), filter_stride=(2, 1)),
                activation='gelu',
            ),
            _OWN,
            _Conv2D,
        ),
        Case('DenseBlock', block.Copy().Set(input_dim=_DIM, stride=2), _OWN, _Conv),
        Case(
            'DenseBlocks',
            jasper_blocks.DenseBlocks.Params().Set(input_dim=_DIM, blocks=[dense, dense, own]),
            _OWN,
            _Conv,
        ),
        Case(
            'ConvolutionModule',
            conformer.ConvolutionModule.Params().Set(model_dim=_DIM, kernel_size=3),
            _OWN,
            _Encoder,
        ),
        Case(
            'ConformerBlock',
            conformer.ConformerBlock.Params().Set(**_HEADS, **_RATES, hidden_dim=12),
            _OWN,
            _Encoder,
        ),
        Case(
            'CtcLoss',
            ctc_loss.CtcLoss.Params(),
            {
                **_OWN,
                'labels': Field('ids', 'labels'),
                'label_paddings': Field('paddings', 'labels'),
            },
            _CtcLoss,
        ),
    ]


def _RecurrentCases() -> list[Case]:
    sizes = {'input_dim': _DIM, 'cell_dim': 6}
    lstm = cells.LSTMCell.Params().Set(**sizes)
    special = lstm.Copy().Set(layer_norm=True, projection_dim=5, zoneout_prob=0.25)
    gru = cells.GRUCell.Params().Set(**sizes)
    stack = {'input_dim': _DIM, 'num_layers': 2, 'cell.cell_dim': 6, 'dropout_prob': 0.25}
    attention = {'source_dim': _DIM, 'query_dim': _DIM, 'hidden_dim': 6}
    fields = {k: v for k, v in _BOTH.items() if k != 'paddings'}
    additive = recurrent_attention.AdditiveAttention.Params().Set(**attention)
    located = recurrent_attention.LocationSensitiveAttention.Params().Set(
        **attention, location_filters=2, location_kernel_size=3
    )
    kinds = {
        'DotAttention': recurrent_attention.DotAttention.Params().Set(**attention),
        'AdditiveAttention': additive,
        'AdditiveAttention-normalized': additive.Copy().Set(normalized=True),
        'LocationSensitiveAttention': located,
        'LocationSensitiveAttention-last': located.Copy().Set(cumulative=False),
        'MonotonicAttention': recurrent_attention.MonotonicAttention.Params().Set(
            **attention, bias=0.0, hard=False, sigmoid_noise=0.1
        ),
    }
    conv_lstm_params = conv_lstm.ConvLSTM.Params().Set(input_dim=2, cell_dim=3)
    return [
        *(
            Case(name, p, _OWN, _Cell, draws=p.zoneout_prob > 0)
            for name, p in (('LSTMCell', lstm), ('LSTMCell-special', special), ('GRUCell', gru))
        ),
        Case('RNN-lstm', rnn.RNN.Params().Set(cell=lstm), _OWN, _Encoder, _RnnSteps),
        Case(
            'RNN-lstm-special',
            rnn.RNN.Params().Set(cell=special),
            _OWN,
            _Encoder,
            _RnnSteps,
            draws=True,
        ),
        Case('RNN-gru-reverse', rnn.RNN.Params().Set(cell=gru, reverse=True), _OWN, _Encoder),
        Case('BidirectionalRNN', rnn.BidirectionalRNN.Params().Set(cell=lstm), _OWN, _Encoder),
        Case('StackedRNN', rnn.StackedRNN.Params().Set(**stack), _OWN, _Encoder, _RnnSteps),
        Case(
            'StackedBidirectionalRNN',
            rnn.StackedBidirectionalRNN.Params().Set(**stack),
            _OWN,
            _Encoder,
        ),
        Case('ConvLSTM', conv_lstm_params, _OWN, _ConvLSTM, _ConvLSTMSteps),
        Case('ConvLSTM-reverse', conv_lstm_params.Copy().Set(reverse=True), _OWN, _ConvLSTM),
        *(
            Case(name, p, fields, _Attention, _AttentionSteps, draws='Monotonic' in name)
            for name, p in kinds.items()
        ),
    ]


CASES: list[Case] = _Cases()


def MissingLayers(package: Any = lingvo_lite.layers) -> list[str]:
    """Public layers of `package`, that is with an FProp, which no case is about."""
    covered = {case.params.cls for case in CASES}
    return [
        name
        for name, cls in public_classes.Below(package, base.BaseLayer).items()
        if cls.FProp is not base.BaseLayer.FProp and cls not in covered
    ]


# Inputs.


def Example(case: Case, index: int, pad: int = 0, noise: int = 0) -> NestedMap:
    """Inputs of one example, a batch of 1.

    Args:
      case: the case.
      index: of the example; what is in it depends on this alone.
      pad: how many padded positions stand behind it. An empty example has one at least.
      noise: seed of what stands at padded positions.
    """
    inputs = NestedMap()
    for name, field in case.fields.items():
        length = LENGTHS[field.axis][index]
        padded = max(1, length + pad)
        values = _Values(field, f'{name}/{index}', length)
        if index == ZEROS and field.kind in ('vectors', 'waveform'):
            values = np.zeros_like(values)
        rest = _Values(field, f'{name}/{index}/{noise}', padded - length)
        if field.kind in ('paddings', 'weights'):
            rest = np.full_like(rest, 1.0 if field.kind == 'paddings' else 0.0)
        inputs[name] = np.concatenate([values, rest])[np.newaxis]
    return inputs


def Batch(case: Case) -> NestedMap:
    """All examples of the case as one batch, padded to the longest."""
    longest = {axis: max(lengths) for axis, lengths in LENGTHS.items()}
    rows = []
    for index in range(len(LENGTHS['time'])):
        row = NestedMap()
        for axis, length in longest.items():
            example = Example(case, index, pad=length - LENGTHS[axis][index])
            row.update({k: v for k, v in example.items() if case.fields[k].axis == axis})
        rows.append(row)
    return NestedMap({k: np.concatenate([row[k] for row in rows]) for k in rows[0]})


def _Values(field: Field, key: str, length: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if field.kind == 'vectors':
        return rng.normal(size=[length, _DIM]).astype(np.float32)
    if field.kind == 'waveform':
        return rng.uniform(-1.0, 1.0, size=[length]).astype(np.float32)
    if field.kind == 'ids':
        return rng.integers(0, _VOCAB, size=[length]).astype(np.int32)
    return np.full([length], 1.0 if field.kind == 'weights' else 0.0, np.float32)
