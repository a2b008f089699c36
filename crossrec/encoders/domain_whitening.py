"""Whitening with statistics of each domain's own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crossrec.encoders.whitening import Kind, Whitening
from crossrec.errors import CrossrecError


class DomainWhitening(nn.Module):
    """One :class:`Whitening` for each domain, fitted on that domain's features.

    With ``zca`` every domain's features have mean zero and the identity as covariance, with ``centre`` mean zero: first
    and second moments no longer tell the domains apart. Axes of ``pca`` would mean something else in each domain, so
    there the k = ``dim`` leading directions are those of all domains together, and each domain is whitened by ``zca``
    within them.

    Source: Sun et al., "Return of frustratingly easy domain adaptation" (CORAL), AAAI 2016, aligns covariances of
    features by whitening one domain and re-colouring it as the other; here all are left white.

    Args:
        domains: their names.
        width: w, width of the features.
        kind: ``centre``, ``zca`` or ``pca``.
        dim: width of the output of ``pca``; None is all of w.
        epsilon: as in :class:`Whitening`.

    Raises:
        CrossrecError: a kind without statistics, or as :class:`Whitening`.

    Shape:
        features (n, w), domains (n,) -> (n, ``out_width``).
    """

    domain_rows = ("each",)

    def __init__(
        self, domains: Sequence[str], width: int, kind: Kind, dim: int | None = None, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        if kind == "none":
            raise CrossrecError(
                "item_encoder.per_domain=true fits statistics, and whitening=none has none: choose centre, zca or pca"
            )
        self.names = tuple(domains)
        first = Whitening(width, kind, dim, epsilon)
        self.out_width = first.out_width
        self.shared = first if kind == "pca" else None
        within: Kind = "zca" if kind == "pca" else kind
        self.each = nn.ModuleList(Whitening(self.out_width, within, None, epsilon) for _ in self.names)

    @torch.no_grad()
    def fit(self, features: Tensor, domains: Tensor) -> DomainWhitening:
        """Fit on ``features`` (n, w) of ``domains`` (n,) and return self.

        A domain with fewer than two rows has the statistics of all rows, and a warning says so.

        Raises:
            CrossrecError: as :meth:`Whitening.fit`, for all rows together.
        """
        if self.shared is not None:
            features = self.shared.fit(features)(features)
        lacking = []
        for index, (name, whitening) in enumerate(zip(self.names, self.each)):
            assert isinstance(whitening, Whitening)
            own = features[domains == index]
            whitening.fit(own if len(own) > 1 else features)
            lacking += [] if len(own) > 1 else [name]
        if lacking:
            warnings.warn(
                f"item_encoder.per_domain: {', '.join(lacking)} with fewer than two training items with text: whitened "
                "as all domains together",
                stacklevel=2,
            )
        return self

    def forward(self, features: Tensor, domains: Tensor) -> Tensor:
        """Map ``features`` (n, w) of ``domains`` (n,) to (n, ``out_width``)."""
        if self.shared is not None:
            features = self.shared(features)
        whitened = features.new_zeros(len(features), self.out_width)
        for index, whitening in enumerate(self.each):
            rows = torch.nonzero(domains == index).squeeze(1)
            if len(rows):
                whitened = whitened.index_copy(0, rows, whitening(features[rows]).to(whitened.dtype))
        return whitened
