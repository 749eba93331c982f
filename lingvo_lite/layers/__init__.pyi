"""layers.Linear, layers.SelfAttention, ...: what experiments and layers are written with."""

from .attention import (
    CrossAttention as CrossAttention,
    MultiHeadAttention as MultiHeadAttention,
    SelfAttention as SelfAttention,
    attend as attend,
    causal_mask as causal_mask,
    padding_mask as padding_mask,
)
from .base import (
    BaseLayer as BaseLayer,
    Remat as Remat,
    ShapesOnly as ShapesOnly,
    handed as handed,
)
from .batch_norm import BatchNorm as BatchNorm
from .conv import (
    Conv1D as Conv1D,
    Conv2D as Conv2D,
    DepthwiseConv1D as DepthwiseConv1D,
    SeparableConv1D as SeparableConv1D,
    zero_at_padding as zero_at_padding,
)
from .dropout import Dropout as Dropout
from .embedding import Embedding as Embedding
from .feedforward import FeedForward as FeedForward
from .initializers import WeightInit as WeightInit
from .linear import Linear as Linear
from .norm import LayerNorm as LayerNorm, RmsNorm as RmsNorm
from .positions import LearnedPositions as LearnedPositions, Sinusoid as Sinusoid, rotate as rotate
from .recurrent.attention import (
    AdditiveAttention as AdditiveAttention,
    DotAttention as DotAttention,
    LocationSensitiveAttention as LocationSensitiveAttention,
)
from .recurrent.cells import GRUCell as GRUCell, LSTMCell as LSTMCell
from .recurrent.conv_lstm import ConvLSTM as ConvLSTM
from .recurrent.monotonic_attention import MonotonicAttention as MonotonicAttention
from .recurrent.recurrence import recur as recur, times as times
from .recurrent.rnn import (
    RNN as RNN,
    BidirectionalRNN as BidirectionalRNN,
    StackedBidirectionalRNN as StackedBidirectionalRNN,
    StackedRNN as StackedRNN,
)
from .softmax import SoftmaxLoss as SoftmaxLoss, cross_entropy as cross_entropy
from .speech.conformer import (
    ConformerBlock as ConformerBlock,
    ConvolutionModule as ConvolutionModule,
)
from .speech.ctc_loss import CtcLoss as CtcLoss
from .speech.frontend import (
    MelAsrFrontend as MelAsrFrontend,
    MfccFrontend as MfccFrontend,
    SpectrogramFrontend as SpectrogramFrontend,
)
from .speech.jasper_blocks import (
    ConvBlock as ConvBlock,
    DenseBlock as DenseBlock,
    DenseBlocks as DenseBlocks,
)
from .speech.spec_augment import SpectrumAugmenter as SpectrumAugmenter
from .transformer import (
    TransformerDecoder as TransformerDecoder,
    TransformerDecoderLayer as TransformerDecoderLayer,
    TransformerEncoder as TransformerEncoder,
    TransformerEncoderLayer as TransformerEncoderLayer,
)
from .variables import (
    Bias as Bias,
    Hoisted as Hoisted,
    LoopValue as LoopValue,
    Scale as Scale,
    Weight as Weight,
)
