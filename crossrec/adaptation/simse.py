"""How well a tower's vectors are reconstructed from their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from crossrec.adaptation.base import PerDomainAdaptation
from crossrec.adaptation.options import PerDomainOptions
from crossrec.adaptation.pairs import DomainViews
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SIMSE(PerDomainAdaptation):
    """Scale-invariant mean squared error of the reconstruction of each row.

    With e_i = x_i - y_i, x the ``input`` and y the ``reconstruction`` (n, f) of a domain's rows,

    - ``simse``: 1/n sum_i [ 1/f |e_i|^2 - 1/f^2 (sum_j e_ij)^2 ], the variance of e_i over coordinates: an error that
      is the same in all coordinates of a row costs nothing;
    - ``mse``: 1/n sum_i 1/f |e_i|^2.

    The input is a fixed goal: the gradient goes into the reconstruction, and from there into the parts. The name is
    the papers': a constant factor of an image is a constant added to its logarithm.

    Source: Bousmalis et al., "Domain separation networks", NIPS 2016, eq. (3) and (4), with means over rows and domains
    for sums; Eigen, Puhrsch and Fergus, "Depth map prediction from a single image using a multi-scale deep network",
    NIPS 2014, eq. (4), with lambda = 1 (``simse``) and 0 (``mse``), and without logarithms.

    Args:
        error: ``simse`` or ``mse``.
        options: see :class:`PerDomainAdaptation`.

    Raises:
        CrossrecError: ``error`` is neither.

    Example:
        >>> import torch
        >>> layers = {"input": torch.tensor([[4.0, 6.0]]), "reconstruction": torch.tensor([[1.0, 5.0]])}
        >>> view = DomainViews(torch.zeros(1, 2), torch.zeros(1), torch.arange(1), layers=layers)
        >>> SIMSE(error="mse").single(view).item(), SIMSE().single(view).item()  # (9 + 1) / 2, and less (4 / 2)^2
        (5.0, 1.0)
    """

    needs = ("input", "reconstruction")

    def __init__(self, *, error: Literal["simse", "mse"] = "simse", **options: Unpack[PerDomainOptions]) -> None:
        super().__init__(**options)
        if error not in ("simse", "mse"):
            raise CrossrecError(f"adaptation.{self.name}.error={error!r} must be simse or mse")
        self.error = error

    def single(self, view: DomainViews) -> Tensor:
        """Error of one domain's rows."""
        e = view.layers["input"].detach() - view.layers["reconstruction"]
        if self.error == "simse":
            e = e - e.mean(1, keepdim=True)  # a difference of two means of squares would round below zero
        return e.square().mean()
