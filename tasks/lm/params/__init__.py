"""Experiments with language models."""
