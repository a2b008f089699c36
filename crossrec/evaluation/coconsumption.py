"""Where items stand among each other by who consumed them: labels that behaviour gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from crossrec.data.randomness import numpy_generator
from crossrec.errors import CrossrecError

FACTORS = 32
"""Factors of an item, where there are as many users and items."""

Ids = npt.NDArray[np.int64]


def coconsumption_factors(
    users: Ids, items: Ids, n_items: int, k: int = FACTORS, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Unit factors (n_items, k) of the items, such that items with the same users point the same way.

    With A the binary matrix of users and items, D_u and D_i the numbers of rows of each user and item, and tau_u and
    tau_i their means, the k leading right singular vectors of (D_u + tau_u)^-1/2 A (D_i + tau_i)^-1/2, each item's k
    entries divided by their length. The scaling keeps the popular from filling every factor, and tau keeps small
    unconnected groups from having factors of their own. An item without users has the zero vector.

    Source: Rohe et al., "Co-clustering directed graphs to discover asymmetries and directional communities", PNAS 113
    (2016), algorithm DI-SIM up to its clustering.

    Args:
        users: (r,) of each row; repeated rows count once.
        items: (r,) from 0 to n_items - 1.
        n_items: of the domain.
        k: factors; fewer where there are not that many users or items with rows.
        seed: of the vector that the decomposition begins with.

    Raises:
        CrossrecError: fewer than three users or items have a row.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import svds

    known, columns = np.unique(items, return_inverse=True)
    who, rows = np.unique(users, return_inverse=True)
    if min(len(known), len(who)) < 3:
        raise CrossrecError(f"{len(who)} users and {len(known)} items with rows: factors need three of each")
    matrix: Any = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(who), len(known)))
    matrix.data[:] = 1.0  # repeated rows were summed
    by_user, by_item = (_scaled(np.asarray(matrix.sum(axis)).ravel()) for axis in (1, 0))
    scaled = diags(by_user) @ matrix @ diags(by_item)
    start = numpy_generator(seed, "coconsumption").standard_normal(min(scaled.shape))
    _, _, right = svds(scaled, k=min(k, min(scaled.shape) - 1), v0=start)
    lengths = np.linalg.norm(right, axis=0)
    factors = np.zeros((n_items, len(right)))
    factors[known] = (right / np.where(lengths > 0, lengths, 1.0)).T
    return factors


def _scaled(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weight: npt.NDArray[np.float64] = 1.0 / np.sqrt(counts + counts.mean())
    return weight
