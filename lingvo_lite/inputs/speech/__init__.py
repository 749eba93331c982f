"""Audio by path or record: reading, resampling, perturbation, manifests; inputs of speech.

Features (log-mel and the like) are layers; what is not about sound stands one up.
"""
