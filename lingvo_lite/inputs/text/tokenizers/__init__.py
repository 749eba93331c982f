"""Text to ids and back: SentencePiece, words, characters, bytes. base.py says what all offer.

Inputs add <s> and </s>; what a token means to a model is layers/embedding.py.
"""

from lingvo_lite.inputs.text.tokenizers.base import (
    BOS_ID as BOS_ID,
    EOS_ID as EOS_ID,
    NUM_SPECIAL as NUM_SPECIAL,
    PAD_ID as PAD_ID,
    UNK_ID as UNK_ID,
    BaseTokenizer as BaseTokenizer,
    NamedTokens as NamedTokens,
    SampleSeeds as SampleSeeds,
)
from lingvo_lite.inputs.text.tokenizers.byte import ByteTokenizer as ByteTokenizer
from lingvo_lite.inputs.text.tokenizers.character import CharacterTokenizer as CharacterTokenizer
from lingvo_lite.inputs.text.tokenizers.sentence_piece import (
    SentencePieceTokenizer as SentencePieceTokenizer,
    TrainSentencePiece as TrainSentencePiece,
)
from lingvo_lite.inputs.text.tokenizers.word import WordTokenizer as WordTokenizer
