"""Evaler and decoder: choosing weights, a pass over a dataset, its folder; one's own input.

What a score is, is metrics/; searches are decoding/; the loss of a batch is training/evaluation.py.
"""
