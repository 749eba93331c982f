"""Kinds of audio files: where their sound lies, and whether they are whole; a module each.

What libsndfile says of a file, and decoding, is one up.
"""
