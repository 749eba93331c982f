"""decoding.Search, decoding.CtcSearch, ...: what recipes and tasks decode with."""

from .ctc.search import CtcSearch as CtcSearch
from .hypotheses import best as best, records as records
from .language_models.fusion import LanguageModel as LanguageModel, Vocabulary as Vocabulary
from .language_models.fusion_params import (
    LmFusion as LmFusion,
    RunLanguageModel as RunLanguageModel,
)
from .language_models.ngram import TokenNGram as TokenNGram, WordNGram as WordNGram
from .scorers import DecoderScorer as DecoderScorer, Ensemble as Ensemble, Scorer as Scorer
from .search import Search as Search
