"""Looking into a step: the first layer that is not finite, numbers of every layer.

Repeating a step of a run is jobs/faults/replay.py.
"""
