"""Trainer, evaler, decoder: processes that share nothing but a log directory.

The trainer is trainer.py; evaler and decoder are scoring/scorer.py, with one pass or the other.
One training step is training/; the command line is cli.py and commands/.
"""
