"""Data in: sources by index, the order of batches, the pipeline that makes them; text and speech.

What is computed from a batch in the graph (features, embeddings) is layers/.
"""
