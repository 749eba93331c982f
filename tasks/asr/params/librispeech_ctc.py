"""LibriSpeech: Deep Speech 2, Wave2Letter+, Jasper and QuartzNet, with CTC over characters.

Sizes, features and published error rates (WER in %, greedy, without a language model) are those of
OpenSeq2Seq, and so are optimizers and learning rates. (Its speeds are drawn from a range, here from
a list.) None is trained here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lingvo_lite import layers, optim, registry
from lingvo_lite.optim import schedules

from .. import ctc_model, deep_speech
from . import librispeech

_STEPS_AN_EPOCH = 960 * 360_000 // librispeech.LibrispeechExperiment.frames_per_batch


class _LibrispeechCtc(librispeech.LibrispeechExperiment):
    """CTC over characters."""

    def _Model(self) -> Any:
        p = ctc_model.CtcModel.Params().Set(vocab_size=librispeech.NUM_CHARACTERS)
        p.eval.Set(best_metric='decode_dev/wer')
        p.train.save_interval_steps = 2000
        return p


@registry.Register
class LibrispeechDeepSpeech2(_LibrispeechCtc):
    """Deep Speech 2, large (Amodei et al., 2016, arXiv 1512.02595): 59.0 million parameters.

    Published (ds2_large): 6.71 dev-clean after 200 epochs, 9.28 after 50.
    """

    speeds = (0.95, 1.0, 1.05)

    def Task(self) -> Any:
        p = self._Model()
        p.frontend = self._Spectrogram(160)
        p.encoder = deep_speech.DeepSpeechEncoder.Params().Set(
            conv_kernels=[(11, 41), (11, 21)],
            conv_strides=[(2, 2), (1, 2)],
            conv_channels=[32, 32],
            hidden_dim=1600,
            dropout_prob=0.5,
        )
        p.encoder.rnn.num_layers = 5
        p.encoder.rnn.cell = layers.GRUCell.Params().Set(cell_dim=800)
        p.train.learning_rate = 1e-3
        p.train.optimizer = optim.Larc.Params().Set(alpha=0.9, eta=1e-3)
        steps = 200 * _STEPS_AN_EPOCH
        p.train.lr_schedule = schedules.Polynomial.Params().Set(
            limit=(steps, 0.0), power=0.5, origin='limit'
        )
        p.train.l2_regularizer_weight = 5e-4
        p.train.max_steps = steps
        return p

    def Tiny(self) -> Any:
        p = self.Task()
        p.encoder.conv_channels = [2] * len(p.encoder.conv_channels)
        p.encoder.hidden_dim = 16
        p.encoder.rnn.num_layers = 2
        p.encoder.rnn.cell.cell_dim = 8
        return p

    def _Spectrogram(self, num_bins: int) -> Any:
        return layers.SpectrogramFrontend.Params().Set(
            num_bins=num_bins,
            frame_size_ms=20.0,
            fft_size=320,
            preemph=0.0,
            normalization='per_utterance',
        )


@registry.Register
class LibrispeechDeepSpeech2Medium(LibrispeechDeepSpeech2):
    """Deep Speech 2, medium: one direction, and a row convolution to look ahead.

    Published (ds2_medium): 22.60 dev-clean after 50 epochs.
    """

    def Task(self) -> Any:
        p = super().Task()
        p.encoder.Set(
            conv_kernels=[(11, 41), (11, 21), (11, 21)],
            conv_strides=[(2, 2), (1, 2), (1, 2)],
            conv_channels=[32, 64, 96],
            row_conv_width=8,
            hidden_dim=2048,
        )
        p.encoder.rnn = layers.StackedRNN.Params().Set(num_layers=3)
        p.encoder.rnn.cell = layers.GRUCell.Params().Set(cell_dim=1024)
        p.train.learning_rate = 2e-4
        p.train.optimizer = optim.Adam.Params()
        p.train.max_steps = p.train.lr_schedule.limit[0] // 4
        p.train.lr_schedule.limit = (p.train.max_steps, 0.0)
        return p


@registry.Register
class LibrispeechDeepSpeech2Small(LibrispeechDeepSpeech2):
    """Deep Speech 2, small, on the 460 hours of clean speech: 10.0 million parameters.

    Published (ds2_small): 39.08 dev-clean after 12 epochs.
    """

    train_splits = librispeech.TRAIN[:2]
    frames_per_batch = 40_000

    def Task(self) -> Any:
        p = super().Task()
        p.frontend = self._Spectrogram(96)
        p.encoder.hidden_dim = 1024
        p.encoder.rnn.num_layers = 2
        p.encoder.rnn.cell.cell_dim = 512
        p.train.learning_rate = 1e-4
        p.train.optimizer = optim.Adam.Params()
        p.train.max_steps = 50_000
        p.train.lr_schedule = schedules.Exponential.Params().Set(limit=(50_000, 0.9**10))
        return p


@registry.Register
class LibrispeechWave2Letter(_LibrispeechCtc):
    """Wave2Letter+ (after Collobert et al., 2016, arXiv 1609.03193): 106.5 million parameters.

    Published (w2lplus_large): 6.67 dev-clean, 18.67 dev-other, 6.58 test-clean, 19.61 test-other
    after 200 epochs.
    """

    speeds = (0.95, 1.0, 1.05)

    def Task(self) -> Any:
        p = self._Model()
        p.frontend = _LogFilterBank().Set(normalization='per_utterance')
        p.encoder.blocks = _Blocks(
            [
                {'kernel_size': 11, 'output_dim': 256, 'stride': 2, 'dropout_prob': 0.2},
                {'kernel_size': 11, 'output_dim': 256, 'num_repeats': 3, 'dropout_prob': 0.2},
                {'kernel_size': 13, 'output_dim': 384, 'num_repeats': 3, 'dropout_prob': 0.2},
                {'kernel_size': 17, 'output_dim': 512, 'num_repeats': 3, 'dropout_prob': 0.2},
                {'kernel_size': 21, 'output_dim': 640, 'num_repeats': 3, 'dropout_prob': 0.3},
                {'kernel_size': 25, 'output_dim': 768, 'num_repeats': 3, 'dropout_prob': 0.3},
                {'kernel_size': 29, 'output_dim': 896, 'dilation': 2, 'dropout_prob': 0.4},
                {'kernel_size': 1, 'output_dim': 1024, 'dropout_prob': 0.4},
            ],
            activation='clipped_relu',
        )
        p.train.learning_rate = 0.05
        p.train.optimizer = optim.Larc.Params().Set(alpha=0.9, eta=1e-3)
        steps = 200 * _STEPS_AN_EPOCH
        p.train.lr_schedule = schedules.Polynomial.Params().Set(
            limit=(steps, 0.0), power=2.0, origin='limit'
        )
        p.train.l2_regularizer_weight = 1e-3
        p.train.max_steps = steps
        return p

    def Tiny(self) -> Any:
        p = self.Task()
        blocks = p.encoder.blocks
        p.encoder.blocks = [  # one of each kind
            block.Copy().Set(output_dim=16, num_repeats=1)
            for block, before in zip(blocks, [None, *blocks])
            if block != before
        ]
        return p


@registry.Register
class LibrispeechJasper(LibrispeechWave2Letter):
    """Jasper DR 10x5 (Li et al., 2019, arXiv 1904.03288): 333 million parameters.

    Published: 3.61 dev-clean, 11.36 dev-other, 3.77 test-clean, 11.08 test-other after 400 epochs.
    Its configuration says beta2=0.98, but what ran was 0: see `NovoGrad`. So LARC, which it names
    too, had no effect and is left out.
    """

    def Task(self) -> Any:
        p = self._Model()
        p.frontend = _LogFilterBank().Set(normalization='per_feature', dither=1e-5)
        p.spec_augment.Set(freq_mask_count=2, freq_mask_max_bins=10)
        p.spec_augment.Set(time_mask_count=2, time_mask_max_frames=50)
        body = {'num_repeats': 5, 'residual': 'dense'}
        p.encoder.blocks = _Blocks(
            [
                {'kernel_size': 11, 'output_dim': 256, 'stride': 2, 'dropout_prob': 0.2},
                *[{'kernel_size': 11, 'output_dim': 256, 'dropout_prob': 0.2, **body}] * 2,
                *[{'kernel_size': 13, 'output_dim': 384, 'dropout_prob': 0.2, **body}] * 2,
                *[{'kernel_size': 17, 'output_dim': 512, 'dropout_prob': 0.2, **body}] * 2,
                *[{'kernel_size': 21, 'output_dim': 640, 'dropout_prob': 0.3, **body}] * 2,
                *[{'kernel_size': 25, 'output_dim': 768, 'dropout_prob': 0.3, **body}] * 2,
                {'kernel_size': 29, 'output_dim': 896, 'dilation': 2, 'dropout_prob': 0.4},
                {'kernel_size': 1, 'output_dim': 1024, 'dropout_prob': 0.4},
            ]
        )
        p.train.learning_rate = 0.02
        p.train.optimizer = optim.NovoGrad.Params().Set(beta1=0.95, beta2=0.0)
        p.train.optimizer.Set(weight_decay=1e-3, weight_decay_exclusion='')
        p.train.max_steps = 400 * _STEPS_AN_EPOCH
        p.train.lr_schedule = schedules.Polynomial.Params().Set(
            limit=(p.train.max_steps, 5e-4), power=2.0, origin='limit'
        )
        return p


@registry.Register
class LibrispeechQuartzNet(LibrispeechJasper):
    """QuartzNet 15x5 (Kriman et al., 2020, arXiv 1910.10261): 18.9 million parameters.

    Published (table 4, the paper's, with Novograd): 3.90 test-clean, 11.28 test-other.
    """

    def Task(self) -> Any:
        p = super().Task()
        separable = layers.SeparableConv1D.Params().Set(use_bias=False)
        body = {'num_repeats': 5, 'residual': 'own', 'conv': separable}
        p.encoder.blocks = _Blocks(
            [
                {'kernel_size': 33, 'output_dim': 256, 'stride': 2, 'conv': separable},
                *[{'kernel_size': 33, 'output_dim': 256, **body}] * 3,
                *[{'kernel_size': 39, 'output_dim': 256, **body}] * 3,
                *[{'kernel_size': 51, 'output_dim': 512, **body}] * 3,
                *[{'kernel_size': 63, 'output_dim': 512, **body}] * 3,
                *[{'kernel_size': 75, 'output_dim': 512, **body}] * 3,
                {'kernel_size': 87, 'output_dim': 512, 'dilation': 2, 'conv': separable},
                {'kernel_size': 1, 'output_dim': 1024},
            ]
        )
        p.train.learning_rate = 0.01
        p.train.optimizer.beta2 = 0.5
        decay = schedules.Cosine.Params().Set(total_steps=p.train.max_steps)
        p.train.lr_schedule = schedules.WarmUp.Params().Set(warmup_steps=1000, schedule=decay)
        return p


def _LogFilterBank() -> Any:
    """Params of 64 bands, as librosa has them."""
    return layers.MelAsrFrontend.Params().Set(
        num_bins=64,
        frame_size_ms=20.0,
        fft_size=512,
        lower_edge_hertz=0.0,
        upper_edge_hertz=8000.0,
        mel_scale='slaney',
    )


def _Blocks(settings: Sequence[dict[str, Any]], activation: str = 'relu') -> list[Any]:
    """Params of blocks with these settings, and OpenSeq2Seq's batch norm and first values."""
    blocks = []
    for each in settings:
        block = layers.DenseBlock.Params().Set(activation=activation, **each)
        block.batch_norm.Set(decay=0.9, epsilon=1e-3)
        block.params_init = layers.WeightInit.GaussianSqrtFanAvg()
        blocks.append(block)
    return blocks
