"""Checkpoints: their tensors and files, saving, averaging, finding, following, starting from one.

What a training holds in memory is training/learner.py; choosing one for a score is jobs/scoring/.
"""
