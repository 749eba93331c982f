"""SentencePiece (Kudo and Richardson, 2018): pieces of words as tokens."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Iterable, Sequence

from absl import logging

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.inputs import cache, data_files, run_files, source
from lingvo_lite.inputs.text.tokenizers.base import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    BaseTokenizer,
    Lines,
)

_TRAIN_THREADS = 4  # SentencePiece's result depends on this number, so it is the same everywhere
_SEED_LOCK = threading.Lock()  # SentencePiece has one seed for the whole process
_MAX_LINE_BYTES = 16384  # SentencePiece trains on no longer line


class SentencePieceTokenizer(BaseTokenizer):
    """SentencePiece (Kudo and Richardson, 2018), unigram or BPE.

    With sampling_alpha above 0 the text of a training example is segmented anew in each epoch:
    BPE-dropout (Provilkov et al., 2020) or subword regularization (Kudo, 2018).
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = super().Params()
        p.Define('vocab_size', hyperparams.REQUIRED, 'Number of ids, with 4 special ones.', int)
        p.Define(
            'model_file',
            '',
            'A trained model, relative to the data folder. Empty: trained on train_files at first '
            'use, into the cache folder.',
        )
        p.Define('prepared_by', '', 'The command that makes model_file, for the error without it.')
        p.Define('train_files', [], 'Line files, relative to the data folder, to train on.')
        p.Define('model_type', 'unigram', 'Kind of model to train.', choices=('unigram', 'bpe'))
        p.Define('character_coverage', 1.0, 'Share of the characters in the text that get an id.')
        p.Define(
            'sampling_alpha',
            0.0,
            'Above 0, segmentations for training are drawn anew in each epoch. BPE: the share of '
            'merges that are dropped, usually 0.1. Unigram: the exponent of the probabilities.',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if values do not fit."""
        if bool(p.model_file) == bool(p.train_files):
            raise hyperparams.Fail(p, 'set either model_file or train_files.')
        hyperparams.RequireRange(p, 'sampling_alpha', at_least=0, at_most=1)

    def __init__(self, params: hyperparams.Params):
        import sentencepiece

        super().__init__(params)
        p = self.params
        if p.model_file:
            path = run_files.FindData(p.model_file, p.prepared_by)
        else:
            settings = ('sentencepiece', *self._Settings(), list(p.train_files))
            path = run_files.Path(run_files.Name('tokenizer.model', *settings), self._Trained)
        with open(path, 'rb') as file:
            model = file.read()
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise ValueError(
                f'{path} is no SentencePiece model, or a damaged one ({len(model):,} bytes). '
                'Copy it again, or train it anew.'
            ) from None
        self._CheckModel(path)
        self.vocab_size = p.vocab_size
        self.samples = p.sampling_alpha > 0
        self._fingerprint = 'sentencepiece-' + hashlib.blake2b(model, digest_size=12).hexdigest()
        if self.samples:
            self._CheckSampling()

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of the best segmentation of each text."""
        return self._processor.Encode(list(texts), num_threads=1)

    def Sample(self, texts: Sequence[str], seeds: Sequence[int]) -> list[list[int]]:
        """The ids of a random segmentation of each text, drawn with its seed (32 bits)."""
        if not self.samples:
            return self.Encode(texts)
        return [self._SampleOne(text, seed) for text, seed in zip(texts, seeds)]

    def Tokens(self) -> list[str]:
        """The pieces; those that begin a word have a '\u2581' in front."""
        model = self._processor
        return [
            '' if model.IsControl(i) else model.IdToPiece(i) for i in range(model.GetPieceSize())
        ]

    def Fingerprint(self) -> str:
        """A hash of the model."""
        return self._fingerprint

    def SampleFingerprint(self) -> str:
        """A hash of the model and of how it samples."""
        return f'{self._fingerprint}-{self.params.sampling_alpha!r}'

    def _Text(self, ids: list[int]) -> str:
        return self._processor.Decode(ids)

    def _SampleOne(self, text: str, seed: int) -> list[int]:
        # A thread takes up the process's seed when it first draws. Encode with num_threads works
        # in a thread of its own, hence the list of one text.
        import sentencepiece

        with _SEED_LOCK:
            sentencepiece.set_random_generator_seed(seed)
            return self._processor.Encode(
                [text],
                num_threads=1,
                enable_sampling=True,
                alpha=self.params.sampling_alpha,
                nbest_size=-1,
            )[0]

    def _CheckModel(self, path: str) -> None:
        p, model = self.params, self._processor
        if model.GetPieceSize() != p.vocab_size:
            raise hyperparams.Fail(
                p,
                f'vocab_size={p.vocab_size}, but {path} has {model.GetPieceSize()} pieces.',
                'vocab_size',
            )
        special = (model.pad_id(), model.bos_id(), model.eos_id(), model.unk_id())
        if special != (PAD_ID, BOS_ID, EOS_ID, UNK_ID):
            raise ValueError(
                f'{path} gives <pad>, <s>, </s>, <unk> the ids {special}; wanted are 0, 1, 2, 3. '
                'Train it with --pad_id=0 --bos_id=1 --eos_id=2 --unk_id=3.'
            )

    def _CheckSampling(self) -> None:
        """Versions of SentencePiece before 0.2.2 ignore all seeds but the first."""
        probe = 'The quick brown fox jumps over the lazy dog, again and again and again.'
        draws = [self._SampleOne(probe, seed) for seed in (1, 2, 3, 4, 1, 2, 3, 4)]
        if draws[:4] != draws[4:]:
            import sentencepiece

            raise hyperparams.Fail(
                self.params,
                f'sampling_alpha needs a SentencePiece that can be seeded; '
                f'{sentencepiece.__version__} cannot. pip install "sentencepiece>=0.2.2".',
                'sampling_alpha',
            )

    def _Settings(self) -> tuple[int, str, float]:
        """What a model depends on, besides the text that it is trained on."""
        p = self.params
        return p.vocab_size, p.model_type, p.character_coverage

    def _Trained(self) -> str:
        p = self.params
        sources = [source.LineSource(data_files.FindData(name)) for name in p.train_files]
        settings = self._Settings()
        key = cache.Key('sentencepiece', settings, [s.Fingerprint() for s in sources])

        def _Write(path: str) -> None:
            logging.info('Training a SentencePiece vocabulary of %d ids.', p.vocab_size)
            try:
                model = TrainSentencePiece(Lines(sources), *settings)
            except ValueError as error:
                raise hyperparams.Fail(p, str(error), 'vocab_size') from None
            with open(path, 'wb') as file:
                file.write(model)

        return cache.Produce(os.path.join('tokenizers', f'{key}.model'), _Write)


def TrainSentencePiece(
    lines: Iterable[str],
    vocab_size: int,
    model_type: str = 'unigram',
    character_coverage: float = 1.0,
) -> bytes:
    """Trains a SentencePiece model; the same lines and arguments give the same bytes.

    Args:
      lines: the text; empty lines are passed over.
      vocab_size: number of ids, the four special ones included.
      model_type: 'unigram' or 'bpe'.
      character_coverage: share of the characters of the text that get an id.

    Returns:
      The model as bytes, for a .model file.

    Raises:
      ValueError: if the text cannot fill the vocabulary, or a vocabulary so small cannot hold its
        characters; says which size would do.
    """
    import sentencepiece

    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=(line for line in lines if line.strip()),
            model_writer=written,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            pad_id=PAD_ID,
            bos_id=BOS_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            num_threads=_TRAIN_THREADS,
            max_sentence_length=_MAX_LINE_BYTES,
            shuffle_input_sentence=False,
            train_extremely_large_corpus=False,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(_Explained(str(error), vocab_size)) from None
    return written.getvalue()


def _Explained(error: str, vocab_size: int) -> str:
    most = re.search(r'value <= (\d+)', error)
    if most:
        return (
            f'vocab_size={vocab_size} is more than the text can fill. Largest that works: {most[1]}'
            '.'
        )
    least = re.search(r'required_chars\. \d+ vs (\d+)', error)
    if least:
        return (
            f'vocab_size={vocab_size} cannot hold the characters of the text. Smallest that works: '
            f'{least[1]}; or set character_coverage lower.'
        )
    if 'sentences_.empty()' in error:
        return 'there is no text to train a vocabulary on: all lines are empty or too long.'
    return f'SentencePiece cannot train vocab_size={vocab_size}: {error.strip()}'
