"""Layers, one concept a file: what several families use; recurrent and speech layers below.

Whole models are tasks/; optimizers and losses across a step are optim/ and training/.
"""

import lazy_loader

# __init__.pyi is the list of public names, for editors and at run time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
