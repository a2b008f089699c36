"""Orthogonality of the shared and the private part of a domain's vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from crossrec.adaptation.base import PerDomainAdaptation
from crossrec.adaptation.numerics import unit_rows
from crossrec.adaptation.options import PerDomainOptions
from crossrec.adaptation.pairs import DomainViews
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Difference(PerDomainAdaptation):
    """How much of the private part of a domain's rows can be told, linearly, from their shared part.

    With the shared S and the private P, (n, f), of a domain's rows and |.|_F^2 the sum of squared entries,

    - ``raw``: |S^T P|_F^2;
    - ``centred``: |S_c^T P_c / (n - 1)|_F^2, X_c = X - its mean row: the sum of the squared covariances;
    - ``normalised``: |S_u^T P_u / n|_F^2, X_u = the rows of X_c at length 1; in [0, 1], the same for any scale and
      number of rows.

    0 where the columns of the two are orthogonal (``raw``), uncorrelated (``centred``), or uncorrelated as directions.

    Source: Bousmalis et al., "Domain separation networks", NIPS 2016, eq. (5), which is ``raw`` of every domain, with a
    sum over domains where we take the mean. The authors' code centres the rows and sets them to length 1, as
    ``normalised`` does, and divides |S_u^T P_u|_F^2 by f^2, so that it grows with the square of the batch.

    Args:
        kind: ``raw``, ``centred`` or ``normalised``. The gradients of the first two also shrink the vectors. A row of
            length 1e-6 or less is left out of ``normalised``: it has no direction.
        options: see :class:`PerDomainAdaptation`.

    Raises:
        CrossrecError: ``kind`` has none of its values.

    Example:
        >>> import torch
        >>> layers = {"shared": torch.tensor([[1.0, 0.0], [3.0, 0.0]]), "private": torch.tensor([[2.0, 1.0]] * 2)}
        >>> view = DomainViews(torch.zeros(2, 2), torch.zeros(2), torch.arange(2), layers=layers)
        >>> Difference(kind="raw").single(view).item()  # [[8, 4], [0, 0]]
        80.0
        >>> Difference(kind="centred").single(view).item()  # the private part is constant
        0.0
    """

    needs = ("shared", "private")

    def __init__(
        self, *, kind: Literal["raw", "centred", "normalised"] = "normalised", **options: Unpack[PerDomainOptions]
    ) -> None:
        super().__init__(**options)
        if kind not in ("raw", "centred", "normalised"):
            raise CrossrecError(f"adaptation.{self.name}.kind={kind!r} must be raw, centred or normalised")
        self.kind = kind
        self.min_rows = 1 if kind == "raw" else 2

    def single(self, view: DomainViews) -> Tensor:
        """Value of one domain's rows."""
        shared, private = view.layers["shared"], view.layers["private"]
        n = len(view)
        if self.kind == "raw":
            return (shared.T @ private).square().sum()
        shared, private = shared - shared.mean(0), private - private.mean(0)
        if self.kind == "centred":
            return (shared.T @ private / (n - 1)).square().sum()
        return (unit_rows(shared).T @ unit_rows(private) / n).square().sum()
