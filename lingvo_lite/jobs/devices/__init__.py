"""What a job computes on: devices, clusters, memory, agreement between workers.

The sums inside a training step are training/; what happens when a worker is lost is faults/.
"""
