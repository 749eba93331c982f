"""Scores that are collected example by example and merged exactly.

Losses are layers/ and task.py; the pass over a dataset is jobs/scoring/.
"""

from lingvo_lite.metrics.base import BaseMetric as BaseMetric
