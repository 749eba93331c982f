"""lingvo_lite: a research framework for sequence models on TensorFlow 2.

Experiments are tasks/, what prepares data and measures is tools/; both install below this name.
"""

import lazy_loader

__version__ = '0.1.0'

# __init__.pyi is the list of public names, for editors and at run time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
