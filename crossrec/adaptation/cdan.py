"""Conditional domain-adversarial training: a critic that reads a vector together with its partner."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crossrec.adaptation.adversarial import DomainViews
from crossrec.adaptation.dann import DANN, DANNOptions
from crossrec.adaptation.numerics import check_width, entropies
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack

PAPERS_WIDTH = 1024


class CDAN(DANN):
    """:class:`DANN` whose critic reads a row's vector x and its partner's g as one: what was liked, and by whom.

    The partner of a user is the item of the same interaction, and of an item the user. The critic reads

    - ``multilinear``: x (x) g, all f^2 products of a coordinate of x with one of g;
    - ``randomised``: 1/sqrt(d) (R_x x) * (R_g g), elementwise in d coordinates, with R_x and R_g fixed standard
      Gaussian matrices.

    With ``entropy``, the weight of row i in L is proportional to 1 + exp(-H_i), of mean 1 in its domain (CDAN+E): a
    row whose partner is easily told counts more. H_i is the entropy of the softmax of <x_i, g> over the K
    different partners g that its domain has in the batch, divided by log K (0 where K = 1), in [0, 1].

    Source: Long et al., "Conditional adversarial domain adaptation", NeurIPS 2018, its multilinear map, randomised
    multilinear map and entropy conditioning, 1 + exp(-H). Deviations: in the paper g is the classifier's prediction
    over classes that the domains share. Items are not shared, and a catalogue's scores would only name the domain, so
    g is the vector of the partner that was observed, in the space that the domains share, and the target's rows are
    observed too, not predicted. H is over the batch's partners of the row's own domain and normalised, so it can be
    compared between domains whose batches differ. The weights are of mean 1 in a domain, as in the authors' code; the
    paper does not scale them. g and the weights are held: the authors' code holds g alone and sends the weights'
    gradient back reversed, and by the paper's formula the loss would move both towers. Domains have equal shares, as
    in :class:`DANN`.

    Args:
        dim: f, the width of vectors and partners (``dim`` of the run).
        map: ``multilinear`` or ``randomised``; the paper takes the second where f^2 is more than 4096.
        width: d of ``randomised``; None is 1024, as in the authors' code.
        entropy: weigh the rows.
        options: see :class:`DANN`; ``seed`` is also that of R_x and R_g, which are saved with the model.

    Raises:
        CrossrecError: an option has none of its values, or a vector is not ``dim`` wide.

    Example:
        >>> cdan = CDAN(dim=2, entropy=False)
        >>> x, g = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 5.0]])
        >>> cdan.joined(x, g).tolist()
        [[3.0, 5.0, 6.0, 10.0]]
    """

    needs = ("partner",)
    map_vectors: Tensor
    map_partners: Tensor

    def __init__(
        self,
        *,
        map: Literal["multilinear", "randomised"] = "multilinear",
        width: int | None = None,
        entropy: bool = True,
        **options: Unpack[DANNOptions],
    ) -> None:
        super().__init__(**options)
        if map not in ("multilinear", "randomised"):
            raise CrossrecError(f"adaptation.{self.name}.map={map!r} must be multilinear or randomised")
        if width is not None and (map != "randomised" or width < 1):
            raise CrossrecError(f"adaptation.{self.name}.width={width} must be null, or 1 or more with map=randomised")
        if not isinstance(entropy, bool):
            raise CrossrecError(f"adaptation.{self.name}.entropy={entropy!r} must be true or false")
        self.map = map
        self.entropy = entropy
        self._width = self.dim**2 if map == "multilinear" else width or PAPERS_WIDTH
        if map == "randomised":
            generator = torch.Generator().manual_seed(self.seed + 1)  # not the numbers the critic starts from
            for name in ("map_vectors", "map_partners"):
                self.register_buffer(name, torch.randn(self.dim, self._width, generator=generator))

    @property
    def width(self) -> int:
        """Width of what the critic reads."""
        return self._width

    def features(self, view: DomainViews) -> Tensor:
        """Return the joined vectors and partners, the partners without gradient."""
        partners = view.layers["partner"].detach()
        check_width(self.name, self.dim, partners, "partners")
        return self.joined(super().features(view), partners)

    def joined(self, x: Tensor, g: Tensor) -> Tensor:
        """What the critic reads (n, ``width``) of vectors and partners (n, f)."""
        if self.map == "multilinear":
            return (x.unsqueeze(2) * g.unsqueeze(1)).flatten(1)
        return (x @ self.map_vectors) * (g @ self.map_partners) / math.sqrt(self._width)

    def weights(self, view: DomainViews) -> Tensor:
        """Weights of the rows (n,); see ``entropy``."""
        weights = super().weights(view)
        if not self.entropy:
            return weights
        vectors, partners = view.vectors.detach(), view.layers["partner"].detach()
        for domain in torch.unique(view.domains):
            rows = torch.nonzero(view.domains == domain).squeeze(1)
            entropies = normalised_entropies(vectors[rows] @ torch.unique(partners[rows], dim=0).T)
            raw = 1.0 + (-entropies).exp()
            weights[rows] = raw / raw.mean()
        return weights


def normalised_entropies(scores: Tensor) -> Tensor:
    """Entropy (n,) of the softmax of each row of ``scores`` (n, K), over log K; 0 where K = 1."""
    if scores.shape[1] == 1:
        return scores.new_zeros(len(scores))
    return entropies(scores.log_softmax(1)) / math.log(scores.shape[1])
