"""Readers of real and synthetic data sets, one file a format."""
