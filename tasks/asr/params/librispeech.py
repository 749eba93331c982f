# ruff: noqa: E501  (the published configuration is here word for word)
"""LibriSpeech (Panayotov et al., 2015), 960 hours: models that listen, attend and spell."""

from __future__ import annotations

from typing import Any

from lingvo_lite import experiment, inputs, layers as py_utils, registry
from lingvo_lite.optim import schedules as lr_schedule

from .. import model

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
NUM_CHARACTERS = inputs.NUM_SPECIAL + len(CHARACTERS)
TRAIN = ('train-clean-100', 'train-clean-360', 'train-other-500')


class LibrispeechExperiment(experiment.BaseExperiment):
    """The datasets. tools/prepare_librispeech.py makes librispeech/ in the data folder."""

    train_splits = TRAIN
    frames_per_batch = 160_000
    speeds = (1.0,)

    def Train(self) -> Any:
        p = self._Input(','.join(f'librispeech/{split}-*.tfrecord' for split in self.train_splits))
        p.Set(tokens_per_batch=self.frames_per_batch, source_max_length=1670)
        return p.Set(speeds=list(self.speeds))

    def Dev(self) -> Any:
        return self._Input('librispeech/dev-clean-*.tfrecord')

    def DevOther(self) -> Any:
        return self._Input('librispeech/dev-other-*.tfrecord')

    def Test(self) -> Any:
        return self._Input('librispeech/test-clean-*.tfrecord')

    def TestOther(self) -> Any:
        return self._Input('librispeech/test-other-*.tfrecord')

    def _Input(self, pattern: str) -> Any:
        p = inputs.SpeechInput.Params().Set(file_pattern=pattern, characters=CHARACTERS)
        p.prepared_by = 'tools/prepare_librispeech.py'
        p.tokenizer = self._Tokenizer()
        p.bucket_upper_bound = [200, 400, 600, 800, 1000, 1200, 1300, 1400, 1500, 1600, 1700]
        return p.Set(tokens_per_batch=40_000)

    def _Tokenizer(self) -> Any:
        return inputs.CharacterTokenizer.Params().Set(characters=CHARACTERS)


@registry.Register
class Librispeech(LibrispeechExperiment):
    """Listen, Attend and Spell over graphemes (Chan et al., 2016, arXiv 1508.01211).

    The task is Lingvo's `Librispeech960Grapheme`, published at WER 5.2 dev-clean, 15.2 dev-other,
    5.4 test-clean, 15.5 test-other after 853,200 steps. Here there are 28 graphemes of its 76. Not
    trained here.
    """

    # fmt: off
    def Task(self) -> Any:
        p = model.AsrModel.Params()
        p.name = 'librispeech'
        # Initialize encoder params.
        ep = p.encoder
        # Data consists 240 dimensional frames (80 x 3 frames), which we re-interpret as individual 80 dimensional frames.
        ep.input_shape = [None, None, 80, 1]
        ep.lstm_cell_size = 1024
        ep.num_lstm_layers = 4
        ep.conv_filter_shapes = [(3, 3, 1, 32), (3, 3, 32, 32)]
        ep.conv_filter_strides = [(2, 2), (2, 2)]
        ep.cnn_tpl.params_init = py_utils.WeightInit.Gaussian(0.001)
        # Disable conv LSTM layers.
        ep.num_conv_lstm_layers = 0
        # Initialize decoder params.
        dp = p.decoder
        dp.rnn_cell_dim = 1024
        dp.rnn_layers = 2
        dp.source_dim = 2048
        # Use functional while based unrolling.
        dp.use_while_loop_based_unrolling = False
        tp = p.train
        tp.learning_rate = 2.5e-4
        tp.lr_schedule = lr_schedule.ContinuousLearningRateSchedule.Params().Set(start_step=50000, half_life_steps=100000, min=0.01)
        # dev, devother, test, testother are evaluated completely, train summaries on 5000 examples.
        p.eval.samples_per_summary = 5000
        p.eval.decoder_samples_per_summary = 0
        # Use variational weight noise to prevent overfitting.
        p.vn.global_vn = True
        p.train.vn_std = 0.075
        p.train.vn_start_step = 20000
        return p
    # fmt: on

    def Tiny(self) -> Any:
        p = self.Task()
        p.encoder.Set(conv_filter_shapes=[(3, 3, 1, 4), (3, 3, 4, 4)])
        p.encoder.Set(num_lstm_layers=2, lstm_cell_size=8)
        p.decoder.Set(vocab_size=min(p.decoder.vocab_size, 96), emb_dim=8)
        p.decoder.Set(rnn_cell_dim=16, source_dim=16)
        p.decoder.attention.hidden_dim = 8
        return p


@registry.Register
class LibrispeechWordPiece(Librispeech):
    """The same over 16,328 word pieces, Lingvo's `Librispeech960Wpm`.

    Published: WER 4.3 dev-clean, 13.0 dev-other, 4.5 test-clean, 13.2 test-other after 632,600
    steps. The pieces are trained on the transcripts at first use. Not trained here.
    """

    def Task(self) -> Any:
        p = super().Task()
        p.decoder.Set(vocab_size=16_328, emb_dim=96)
        return p

    def _Tokenizer(self) -> Any:
        return WordPieces(self.Task().decoder.vocab_size)


def WordPieces(vocab_size: int) -> Any:
    """Params of a tokenizer that is trained on the transcripts of the training set."""
    return inputs.SentencePieceTokenizer.Params().Set(
        vocab_size=vocab_size, train_files=[f'librispeech/{split}.txt' for split in TRAIN]
    )
