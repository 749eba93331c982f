"""What the house costs, as ratios measured side by side in one run.

    python -m lingvo_lite.tools.bench [a b c d d2 e f g h] [--quick]

A time says something about a machine; a ratio of two times that were taken in turn says something
about the code. A bench is a function that takes `quick` (tiny sizes, which show that all runs and
measure nothing) and yields a `results.Result` for each line; `__main__.BENCHES` names it.
"""
