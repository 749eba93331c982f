"""lingvo_lite: a research framework for sequence models on TensorFlow 2.

Experiments are tasks/, what prepares data and measures is tools/; both install below this name.
"""

__version__ = '0.1.0'
