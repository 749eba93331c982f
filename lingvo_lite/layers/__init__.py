"""Layers, one concept a file: what several families use; recurrent and speech layers below.

Whole models are tasks/; optimizers and losses across a step are optim/ and training/.
"""
