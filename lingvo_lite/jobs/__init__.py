"""Trainer, evaler, decoder: processes that share nothing but a log directory.

One training step is training/; the command line is cli.py and commands/.
"""
