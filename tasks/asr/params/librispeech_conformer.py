"""LibriSpeech: Conformer (Gulati et al., 2020, arXiv 2005.08100), with CTC and with attention.

Sizes are those of table 1, training that of section 3.2. The paper's decoder is a transducer, so
its error rates (WER in %, without a language model) are what to compare with, not what to expect.
None is trained here.
"""

from __future__ import annotations

from typing import Any

from lingvo_lite import optim, registry
from lingvo_lite.optim import schedules

from .. import conformer_encoder, ctc_model, model
from . import librispeech

_WORD_PIECES = 1024


class _LibrispeechConformer(librispeech.LibrispeechExperiment):
    """CTC over 1,024 word pieces.

    Attributes:
      dim, heads, layers: size of the encoder.
      cell_dim: size of the decoder's LSTM, where there is one.
    """

    dim: int
    heads: int
    layers: int
    cell_dim: int

    def Task(self) -> Any:
        p = ctc_model.CtcModel.Params().Set(vocab_size=_WORD_PIECES)
        return self._Encoder(p)

    def Tiny(self) -> Any:
        p = self.Task()
        if 'decoder' in p:
            p.decoder.Set(vocab_size=64, emb_dim=8, rnn_cell_dim=16, source_dim=16)
            p.decoder.attention.hidden_dim = 8
        else:
            p.vocab_size = 64
        p.encoder.Set(model_dim=16, num_layers=2)
        p.encoder.block.Set(num_heads=2, hidden_dim=32)
        p.train.lr_schedule.model_dim = 16
        return p

    def _Encoder(self, p: Any) -> Any:
        """Task Params p, with the encoder and how it is trained."""
        p.encoder = conformer_encoder.ConformerEncoder.Params().Set(
            model_dim=self.dim, num_layers=self.layers, input_dropout_prob=0.1
        )
        p.encoder.block.Set(
            num_heads=self.heads,
            hidden_dim=4 * self.dim,
            residual_dropout_prob=0.1,
            atten_dropout_prob=0.1,
            relu_dropout_prob=0.1,
        )
        p.encoder.block.convolution.kernel_size = 32
        p.spec_augment.Set(freq_mask_count=2, freq_mask_max_bins=27)
        p.spec_augment.Set(time_mask_count=10, time_mask_max_frames=10_000)
        p.spec_augment.time_mask_max_ratio = 0.05
        # The peak is 0.05 / sqrt(dim), after 10,000 updates.
        p.train.learning_rate = 5.0
        p.train.lr_schedule = schedules.Transformer.Params().Set(
            warmup_steps=10_000, model_dim=self.dim
        )
        p.train.optimizer = optim.Adam.Params().Set(beta1=0.9, beta2=0.98, epsilon=1e-9)
        p.train.l2_regularizer_weight = 1e-6
        p.train.save_interval_steps = 2000
        p.train.max_steps = 500_000
        p.vn.global_vn = True
        p.train.Set(vn_std=0.075, vn_start_step=20_000)
        p.eval.best_metric = 'decode_dev/wer'
        return p

    def _Tokenizer(self) -> Any:
        return librispeech.WordPieces(_WORD_PIECES)


@registry.Register
class LibrispeechConformerS(_LibrispeechConformer):
    """Conformer S with CTC: 16 blocks of 144, 4 heads.

    Published with a transducer, 10.3 million parameters: 2.7 test-clean, 6.3 test-other.
    """

    dim, heads, layers, cell_dim = 144, 4, 16, 320


@registry.Register
class LibrispeechConformerM(_LibrispeechConformer):
    """Conformer M with CTC: 16 blocks of 256, 4 heads.

    Published with a transducer, 30.7 million parameters: 2.3 test-clean, 5.0 test-other.
    """

    dim, heads, layers, cell_dim = 256, 4, 16, 640


@registry.Register
class LibrispeechConformerL(_LibrispeechConformer):
    """Conformer L with CTC: 17 blocks of 512, 8 heads.

    Published with a transducer, 118.8 million parameters: 2.1 test-clean, 4.3 test-other.
    """

    dim, heads, layers, cell_dim = 512, 8, 17, 640


class _WithAttention(_LibrispeechConformer):
    """A decoder that attends, one LSTM, in place of CTC."""

    def Task(self) -> Any:
        p = self._Encoder(model.AsrModel.Params())
        p.encoder.input_dim = p.frontend.num_bins
        p.decoder.Set(vocab_size=_WORD_PIECES, source_dim=self.dim)
        p.decoder.Set(rnn_cell_dim=self.cell_dim, use_while_loop_based_unrolling=False)
        return p


@registry.Register
class LibrispeechConformerSLas(_WithAttention, LibrispeechConformerS):
    """Conformer S with a decoder that attends, an LSTM of 320."""


@registry.Register
class LibrispeechConformerMLas(_WithAttention, LibrispeechConformerM):
    """Conformer M with a decoder that attends, an LSTM of 640."""


@registry.Register
class LibrispeechConformerLLas(_WithAttention, LibrispeechConformerL):
    """Conformer L with a decoder that attends, an LSTM of 640."""
