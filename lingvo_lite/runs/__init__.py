"""Log directories by path: params, metrics, locks; checkpoints below. Knows no task.

The processes that read and write them are jobs/.
"""
