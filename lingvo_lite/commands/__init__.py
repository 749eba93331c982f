"""What the commands of cli.py take and do, one a file; what their flags share is beside them.

TensorFlow is imported inside the functions that need it, behind the reading of the flags.
"""
