"""Hypotheses out of CTC probabilities: greedy, prefix beam search, times of tokens.

The loss is layers/speech/ctc_loss.py; searches that ask a decoder step by step stand one up.
"""
