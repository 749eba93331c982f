"""The optimizers, a file each, and what they share.

What belongs to all of them (schedules.py, clipping.py, the loss scale) stands one up.
"""

import lazy_loader

# __init__.pyi is the list of public names, for editors and at run time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
