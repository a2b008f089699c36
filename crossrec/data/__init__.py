"""Corpora, splits, negatives and batches; no torch modules."""
