"""The Params of a job: from experiment, flags and run to what is built; describing them.

What Params are is floor 1; what a run holds on disk is runs/.
"""
