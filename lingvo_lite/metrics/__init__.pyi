"""metrics.CorpusBleu, metrics.Wer, ...: what tasks are scored by."""

from .accuracy import Accuracy as Accuracy
from .base import BaseMetric as BaseMetric
from .bleu import ChrF as ChrF, CorpusBleu as CorpusBleu
from .mean import LogPerplexity as LogPerplexity, Mean as Mean
from .wer import Cer as Cer, Wer as Wer
