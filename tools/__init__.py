"""Commands that prepare data, run benchmarks and keep the repository in order."""
