"""What a job shows: console, TensorBoard, profiles, numbers of an interval of steps.

metrics.jsonl is runs/metrics_log.py; scores of a dataset are scoring/.
"""
