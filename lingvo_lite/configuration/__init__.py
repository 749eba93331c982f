"""What Params are made of: the tree, paths in it, checks of values, its text, its errors.

Params themselves are hyperparams.py, which names all that others use; literals are literals.py.
"""
