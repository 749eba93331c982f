"""Hypotheses out of a scorer: greedy, beam search and sampling; CTC and language models below.

The pass over a dataset is jobs/scoring/; what a score of hypotheses is, metrics/.
"""

import lazy_loader

# __init__.pyi is the list of public names, for editors and at run time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
