"""One training step: precision, gradients, accumulation, moving averages; debugging below.

What surrounds the step (saving, logging, stopping) is jobs/.
"""
