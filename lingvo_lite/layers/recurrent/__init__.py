"""Networks that loop over time: cells, stacks of them, attention of a recurrent decoder.

Attention without a loop is layers/attention.py; whole encoders and decoders are tasks.
"""
