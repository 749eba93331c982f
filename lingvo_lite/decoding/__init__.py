"""Hypotheses out of a scorer: greedy, beam search and sampling; CTC and language models below.

The pass over a dataset is jobs/scoring/; what a score of hypotheses is, metrics/.
"""
