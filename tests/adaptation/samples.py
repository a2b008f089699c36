"""Two samples, the simplest input of a pairwise loss."""

import torch


def samples(n=7, m=5, f=3, shift=0.5, seed=0):
    """Standard normal rows (n, f), and (m, f) that are shifted, in float64."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, f, generator=g, dtype=torch.float64)
    return a, torch.randn(m, f, generator=g, dtype=torch.float64) + shift
