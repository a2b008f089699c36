"""Ranking, its metrics and protocols."""
