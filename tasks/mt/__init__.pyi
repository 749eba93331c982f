"""Translation: models and inputs by their public names."""

from .input import NumbersInput as NumbersInput
from .model import TransformerModel as TransformerModel
