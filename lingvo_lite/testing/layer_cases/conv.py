"""Convolutions, and the norm that goes with them."""

from __future__ import annotations

from lingvo_lite.layers import batch_norm, conv
from lingvo_lite.testing.layer_cases.calls import PADDED, Padded, Strided, Strided2D
from lingvo_lite.testing.layer_cases.case import DIM, Case

_ONE = {'input_dim': DIM, 'kernel_size': 3}

CASES = [
    Case('Conv1D', conv.Conv1D.Params().Set(**_ONE, output_dim=5, stride=2), PADDED, Strided),
    Case(
        'Conv1D-dilated',
        conv.Conv1D.Params().Set(**_ONE, output_dim=5, dilation=3),
        PADDED,
        Strided,
    ),
    Case(
        'DepthwiseConv1D',
        conv.DepthwiseConv1D.Params().Set(input_dim=DIM, kernel_size=4, stride=2),
        PADDED,
        Strided,
    ),
    Case(
        'SeparableConv1D-dilated',
        conv.SeparableConv1D.Params().Set(**_ONE, output_dim=5, dilation=2),
        PADDED,
        Strided,
    ),
    Case(
        'Conv2D',
        conv.Conv2D.Params().Set(filter_shape=(3, 3, 2, 5), filter_stride=(2, 2)),
        PADDED,
        Strided2D,
    ),
    Case('BatchNorm', batch_norm.BatchNorm.Params().Set(model_dim=DIM), PADDED, Padded),
]
