"""inputs.ParallelTextInput, inputs.ByteTokenizer, ...: what datasets are described with."""

from .cache import CacheDir as CacheDir
from .data_files import (
    FindData as FindData,
    FindDataFiles as FindDataFiles,
    SetDataDir as SetDataDir,
)
from .feed import Batch as Batch
from .mixed_input import MixedInput as MixedInput
from .own_input import OwnInput as OwnInput
from .pipeline import BaseInput as BaseInput
from .records import RecordSource as RecordSource, ShardWriter as ShardWriter
from .source import (
    BadRecordError as BadRecordError,
    IterableSource as IterableSource,
    LineSource as LineSource,
    MemorySource as MemorySource,
    Source as Source,
)
from .speech.files import SpeechFilesInput as SpeechFilesInput
from .speech.manifests import Manifest as Manifest
from .speech.transcribed import SpeechInput as SpeechInput
from .speech.utterances import (
    ManifestUtterances as ManifestUtterances,
    RecordUtterances as RecordUtterances,
    Utterance as Utterance,
    Utterances as Utterances,
)
from .speech.waveform_input import WaveformInput as WaveformInput
from .text.pairs import LinePairs as LinePairs, RecordPairs as RecordPairs
from .text.parallel import ParallelTextInput as ParallelTextInput
from .text.source_text import SourceTextInput as SourceTextInput
from .text.text_input import TextInput as TextInput
from .text.tokenized_input import TokenizedInput as TokenizedInput
from .text.tokenizers import (
    NUM_SPECIAL as NUM_SPECIAL,
    BaseTokenizer as BaseTokenizer,
    ByteTokenizer as ByteTokenizer,
    CharacterTokenizer as CharacterTokenizer,
    SentencePieceTokenizer as SentencePieceTokenizer,
    WordTokenizer as WordTokenizer,
)
