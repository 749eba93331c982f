"""Text to ids and back: SentencePiece, words, characters, bytes.

All of them give 0 to padding, 1 to <s>, 2 to </s> and 3 to what is unknown. `Encode` adds none of
these; inputs do.

A tokenizer whose params name `train_files` and no finished vocabulary trains itself when it is
first built, into `tokenizers/` of the cache folder (see cache.py). The name of the vocabulary holds
a hash of the text and the params that it was trained with, and training is deterministic, so a
vocabulary that was deleted comes back the same with the same version of SentencePiece.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence

from absl import logging

from lingvo_lite import hyperparams
from lingvo_lite.inputs import cache, source

PAD_ID, BOS_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
NUM_SPECIAL = 4
_TRAIN_THREADS = 4  # SentencePiece's result depends on this number, so it is the same everywhere
_SEED_LOCK = threading.Lock()  # SentencePiece has one seed for the whole process
_MAX_LINE_BYTES = 16384  # SentencePiece trains on no longer line


class BaseTokenizer:
    """What every tokenizer offers.

    Attributes:
      vocab_size: number of ids, the four special ones included.
      samples: whether `Sample` differs from `Encode`.
    """

    pad_id, bos_id, eos_id, unk_id = PAD_ID, BOS_ID, EOS_ID, UNK_ID
    vocab_size: int
    samples = False

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams:
        """Params of this class."""
        return hyperparams.InstantiableParams(cls)

    def __init__(self, params: hyperparams.InstantiableParams):
        self.params = params

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without <s> and </s>."""
        raise NotImplementedError

    def Sample(self, texts: Sequence[str], seeds: Sequence[int]) -> list[list[int]]:
        """As `Encode`, with a random segmentation that depends on text and seed alone."""
        del seeds
        return self.Encode(texts)

    def Decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence, up to its first </s>; special ids but unknown are left out."""
        return [self._Text(_Plain(row)) for row in ids]

    def Tokens(self) -> list[str]:
        """The text of each id; '' for those that are no text.

        A token that begins a word has a space or a '\u2581' in front, unless the space is a token
        of its own. What stands for no one text, such as the unknown, is '\ufffd' or '<unk>'.
        """
        raise NotImplementedError(f'{type(self).__name__}.Tokens')

    def Fingerprint(self) -> str:
        """A hash that is equal only if `Encode` gives the same ids for every text."""
        raise NotImplementedError

    def SampleFingerprint(self) -> str:
        """The same of `Sample`."""
        return self.Fingerprint()

    def _Text(self, ids: list[int]) -> str:
        raise NotImplementedError


def _Plain(row: Sequence[int]) -> list[int]:
    ids = [int(i) for i in row]
    if EOS_ID in ids:
        ids = ids[: ids.index(EOS_ID)]
    return [i for i in ids if i not in (PAD_ID, BOS_ID)]


class ByteTokenizer(BaseTokenizer):
    """UTF-8 bytes: byte b has id b + 4. Nothing is ever unknown."""

    vocab_size = NUM_SPECIAL + 256

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [[byte + NUM_SPECIAL for byte in text.encode('utf-8')] for text in texts]

    def Tokens(self) -> list[str]:
        """The characters of ASCII; a byte of a longer character is '\ufffd'."""
        return [''] * NUM_SPECIAL + [chr(b) if b < 128 else '\ufffd' for b in range(256)]

    def Fingerprint(self) -> str:
        """Always the same."""
        return 'bytes-1'

    def _Text(self, ids: list[int]) -> str:
        return bytes(i - NUM_SPECIAL for i in ids if i >= NUM_SPECIAL).decode('utf-8', 'replace')


class CharacterTokenizer(BaseTokenizer):
    """Unicode characters: those listed, or those that occur in some files, by code point."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams:
        """Params of this class."""
        p = super().Params()
        p.Define('characters', '', 'The characters that get an id. Empty: those of train_files.')
        p.Define(
            'train_files',
            [],
            'Line files, relative to the data folder, whose characters get an id.',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.InstantiableParams) -> None:
        """Raises ConfigError unless exactly one of characters and train_files is set."""
        if bool(p.characters) == bool(p.train_files):
            raise hyperparams.Fail(p, 'set either characters or train_files.')

    def __init__(self, params: hyperparams.InstantiableParams):
        super().__init__(params)
        self._characters = sorted(set(params.characters)) or self._Collected()
        self._ids = {c: i for i, c in enumerate(self._characters, NUM_SPECIAL)}
        self.vocab_size = NUM_SPECIAL + len(self._characters)

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [[self._ids.get(c, UNK_ID) for c in text] for text in texts]

    def Tokens(self) -> list[str]:
        """The characters."""
        return ['', '', '', '\ufffd', *self._characters]

    def Fingerprint(self) -> str:
        """A hash of the characters."""
        return 'characters-' + cache.Key(self._characters)

    def _Text(self, ids: list[int]) -> str:
        known = range(NUM_SPECIAL, self.vocab_size)  # a model may have more tokens than these
        return ''.join(self._characters[i - NUM_SPECIAL] if i in known else '\ufffd' for i in ids)

    def _Collected(self) -> list[str]:
        sources = [source.LineSource(source.FindData(name)) for name in self.params.train_files]
        key = cache.Key('characters', [s.Fingerprint() for s in sources])

        def _Write(path: str) -> None:
            found: set[str] = set()
            for line in _Lines(sources):
                found.update(line)
            with open(path, 'w', encoding='utf-8') as file:
                json.dump(sorted(found), file)

        with open(
            cache.Produce(f'tokenizers/{key}.characters.json', _Write), encoding='utf-8'
        ) as file:
            return json.load(file)


class WordTokenizer(BaseTokenizer):
    """Words of a small vocabulary: what stands between white space, in the order listed."""

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams:
        """Params of this class."""
        p = super().Params()
        p.Define('words', [], 'The words that get an id.')
        return p

    @classmethod
    def Check(cls, p: hyperparams.InstantiableParams) -> None:
        """Raises ConfigError if there is no word, or one is given twice or is none."""
        once = bool(p.words) and len(set(p.words)) == len(p.words)
        hyperparams.Require(p, once, 'words', 'words, each once')
        for word in p.words:
            if word.split() != [word]:
                raise hyperparams.Fail(p, f'words: {word!r} is not one word.', 'words')

    def __init__(self, params: hyperparams.InstantiableParams):
        super().__init__(params)
        self._ids = {word: i for i, word in enumerate(params.words, NUM_SPECIAL)}
        self.vocab_size = NUM_SPECIAL + len(params.words)

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [[self._ids.get(word, UNK_ID) for word in text.split()] for text in texts]

    def Tokens(self) -> list[str]:
        """The words, each with a space in front."""
        return ['', '', '', *(f' {word}' for word in ['\ufffd', *self.params.words])]

    def Fingerprint(self) -> str:
        """A hash of the words."""
        return 'words-' + cache.Key(list(self.params.words))

    def _Text(self, ids: list[int]) -> str:
        words, known = self.params.words, range(NUM_SPECIAL, self.vocab_size)
        return ' '.join(words[i - NUM_SPECIAL] if i in known else '\ufffd' for i in ids)


class SentencePieceTokenizer(BaseTokenizer):
    """SentencePiece (Kudo and Richardson, 2018), unigram or BPE.

    With sampling_alpha above 0 the text of a training example is segmented anew in each epoch:
    BPE-dropout (Provilkov et al., 2020) or subword regularization (Kudo, 2018).
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams:
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
    def Check(cls, p: hyperparams.InstantiableParams) -> None:
        """Raises ConfigError if values do not fit."""
        if bool(p.model_file) == bool(p.train_files):
            raise hyperparams.Fail(p, 'set either model_file or train_files.')
        hyperparams.RequireRange(p, 'sampling_alpha', at_least=0, at_most=1)

    def __init__(self, params: hyperparams.InstantiableParams):
        import sentencepiece

        super().__init__(params)
        p = self.params
        path = source.FindData(p.model_file, p.prepared_by) if p.model_file else self._Trained()
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

    def _Trained(self) -> str:
        p = self.params
        sources = [source.LineSource(source.FindData(name)) for name in p.train_files]
        settings = (p.vocab_size, p.model_type, p.character_coverage)
        key = cache.Key('sentencepiece', settings, [s.Fingerprint() for s in sources])

        def _Write(path: str) -> None:
            logging.info('Training a SentencePiece vocabulary of %d ids.', p.vocab_size)
            try:
                model = TrainSentencePiece(_Lines(sources), *settings)
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


def _Lines(sources: Sequence[source.LineSource]) -> Iterator[str]:
    """All lines of all sources but the bad ones, which the input that serves them counts."""
    for lines in sources:
        for i in range(len(lines)):
            try:
                yield lines.Get(i)
            except source.BadRecordError as error:
                logging.warning('%s Not used to train the vocabulary.', error)


def SampleSeeds(ids: Sequence[int], *key: int) -> list[int]:
    """32-bit seeds for `Sample`, each a function of the id of an example and of `key` alone."""
    start = hashlib.blake2b(repr(key).encode(), digest_size=4)
    seeds = []
    for i in ids:
        one = start.copy()
        one.update(int(i).to_bytes(8, 'little', signed=True))
        seeds.append(int.from_bytes(one.digest(), 'little'))
    return seeds
