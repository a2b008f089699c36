"""Towers: items and users to one space of vectors."""
