"""Scores that are collected example by example and merged exactly.

Losses are layers/ and task.py; the pass over a dataset is jobs/scoring/.
"""

import lazy_loader

# __init__.pyi is the list of public names, for editors and at run time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
