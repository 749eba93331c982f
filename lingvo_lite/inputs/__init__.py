"""Data in: sources by index, the order of batches, the pipeline that makes them; text and speech.

What is computed from a batch in the graph (features, embeddings) is layers/.
"""

import lazy_loader

# __init__.pyi is the list of public names, for editors and at run time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
