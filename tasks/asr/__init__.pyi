"""Speech recognition: models and inputs by their public names."""

from .conformer_encoder import ConformerEncoder as ConformerEncoder
from .ctc_model import CtcModel as CtcModel
from .decoder import AsrDecoder as AsrDecoder
from .deep_speech import DeepSpeechEncoder as DeepSpeechEncoder, RowConvolution as RowConvolution
from .encoder import AsrEncoder as AsrEncoder
from .input import (
    FsddInput as FsddInput,
    LibrispeechMiniInput as LibrispeechMiniInput,
    SpokenDigitsInput as SpokenDigitsInput,
)
from .model import AsrModel as AsrModel
from .recognizer import Recognizer as Recognizer
