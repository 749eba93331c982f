"""Optimizers, schedules, regularizers and loss scales that experiments choose from.

The step that uses them is training/.
"""
