"""Recommendation losses."""
