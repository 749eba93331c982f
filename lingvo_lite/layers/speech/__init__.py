"""Layers of speech recognition: front ends, SpecAugment, Conformer and Jasper blocks, CTC loss.

Convolutions and norms that other families use too stand one up; reading audio is inputs/speech/.
"""
