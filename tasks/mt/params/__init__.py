"""Experiments of machine translation."""
