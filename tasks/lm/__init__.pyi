"""Language models: models and inputs by their public names."""

from .input import LinesInput as LinesInput
from .model import RnnLm as RnnLm
