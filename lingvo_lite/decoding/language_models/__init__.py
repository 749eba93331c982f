"""Language models that a search listens to: n-grams, ARPA files, runs of `lm`; shallow fusion.

The searches themselves stand one up; neural language models are tasks.
"""
