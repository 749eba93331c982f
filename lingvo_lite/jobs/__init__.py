"""Trainer, evaler, decoder: processes that share nothing but a log directory.

Evaler and decoder are scoring/scorer.py. A training step is training/, the commands are commands/.
"""
