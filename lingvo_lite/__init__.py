"""lingvo_lite: a research framework for sequence models on TensorFlow 2."""

__version__ = '0.1.0'
