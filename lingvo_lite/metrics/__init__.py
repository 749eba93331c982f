"""Scores that are collected example by example and merged exactly."""

from lingvo_lite.metrics.base import BaseMetric as BaseMetric
