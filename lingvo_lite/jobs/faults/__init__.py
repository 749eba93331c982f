"""When something goes wrong: signals, hangs, lost workers, errors for users, replaying a step.

Damaged checkpoints are runs/checkpoints/; which layer went wrong first is training/debugging/.
"""
