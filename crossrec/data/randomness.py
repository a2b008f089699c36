"""Random generators derived from one seed, one for each purpose."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def _sequence(seed: int, path: tuple[int | str, ...]) -> np.random.SeedSequence:
    words = [zlib.crc32(p.encode()) if isinstance(p, str) else p for p in path]
    return np.random.SeedSequence([seed % 2**63, *words])


def numpy_generator(seed: int, *path: int | str) -> np.random.Generator:
    """Return the NumPy generator of a purpose.

    Args:
        seed: of the run; 0 is a seed.
        path: names and non-negative numbers that tell this purpose from every other, e.g. ``"order", epoch``.
    """
    return np.random.default_rng(_sequence(seed, path))


def torch_generator(seed: int, *path: int | str) -> torch.Generator:
    """Return the torch generator (CPU) of a purpose; arguments as in :func:`numpy_generator`."""
    state = int(_sequence(seed, path).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)
