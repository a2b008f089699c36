"""Losses that measure how far apart the domains' representations are."""
