"""Hypotheses out of a scorer: greedy, beam search and sampling."""
