"""Networks that part a tower's vectors into what all domains share and what is private to each."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Fusion = Literal["gate", "sum", "concat-linear", "shared"]
FUSIONS = ("gate", "sum", "concat-linear", "shared")

FIRST_LOG_VARIANCE = -10.0
"""Of the variational shared part: noise of deviation e^-5, a third of that of a new id vector's coordinates."""


class ZeroLinear(nn.Linear):
    """A linear layer that starts at zero, so what it is added to starts as it is; it draws no random number."""

    def reset_parameters(self) -> None:
        """Set weight and bias to 0."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class PrivateTowers(nn.Module):
    """Part h of domain d into a shared and a private vector, fuse them, and reconstruct h from them.

    With m_j = 1 for j = 0, 2, 4... and 0 for j = 1, 3, 5... (1 for every j with ``shared``), and S, P_d, A, c, C, D, L
    at first zero,

    - shared: s = k m * h + S h / f, the same map for all domains;
    - private: p = k (1 - m) * h + P_d h / f, a map for each domain;
    - fused: g * s + (1 - g) * p with g = sigmoid(A [s; p] + c) (``gate``, k = 2); s + p (``sum``, k = 1); s + p +
      C [s; p] / f (``concat-linear``, k = 1); s (``shared``, k = 1); A, c and C are the same for all domains;
    - reconstruction: (s + p) / k + D (s + p) / f, the same map for all domains.

    So at first the shared part is every other coordinate of h and the private part the others, and the fused vector and
    the reconstruction are h itself, bit for bit. Weight decay pulls back to there. With ``variational`` the s above is
    a mean, and s is drawn from N(mean, exp(l)), l = -10 + L h + c, in training; in evaluation it is the mean.

    With ``shared`` the shared part is h at first, and the private part zero: every other linear part of h is correlated
    with it. The private part grows by the reconstruction, which asks it for what the shared part no longer holds.

    The maps are divided by f because a step of Adam moves each of their f^2 entries by the learning rate, and h by up
    to f times that: undivided, they ran ahead of the vectors and overfitted (as in Yang et al., "Tuning large neural
    networks via zero-shot hyperparameter transfer", NeurIPS 2021: a learning rate of 1/f for hidden weights). They have
    no constant: a zero vector, as of a user without history, stays zero. (On the synthetic corpus a constant of each
    domain was soon longer than the vectors, and hurt.)

    Args:
        dim: f, the width of the vectors.
        n_domains: number of domains.
        fusion: ``gate``, ``sum``, ``concat-linear`` or ``shared``.
        variational: draw the shared part.
        learn: false: all maps stay at their first values, and nothing is drawn.

    Shape:
        (n, f) and (n,) domain index -> (n, f), of the same type, and layers (n, f) ``shared``, ``private``, ``input``,
        ``reconstruction`` (and ``mean``, ``log_variance``).

    Example:
        >>> towers = PrivateTowers(dim=3, n_domains=2, fusion="sum")
        >>> fused, layers = towers(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1]))
        >>> layers["shared"].tolist(), layers["private"].tolist(), fused.tolist()
        ([[1.0, 0.0, 3.0]], [[0.0, 2.0, 0.0]], [[1.0, 2.0, 3.0]])
    """

    first: Tensor

    def __init__(
        self, dim: int, n_domains: int, *, fusion: Fusion = "gate", variational: bool = False, learn: bool = True
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.learn = learn
        self.scale = 2.0 if fusion == "gate" else 1.0
        shared = torch.ones(dim) if fusion == "shared" else (torch.arange(dim) % 2 == 0).float()
        self.register_buffer("first", shared * self.scale, persistent=False)
        self.shared = ZeroLinear(dim, dim, bias=False)
        self.private = nn.Parameter(torch.zeros(n_domains, dim, dim))
        self.decoder = ZeroLinear(dim, dim, bias=False)
        self.fuse = ZeroLinear(2 * dim, dim, bias=fusion == "gate") if fusion in ("gate", "concat-linear") else None
        self.log_variance = ZeroLinear(dim, dim) if variational else None
        self.requires_grad_(learn)

    def forward(self, vectors: Tensor, domains: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the fused vectors and the layers."""
        f = vectors.shape[1]
        shared = vectors * self.first + self.shared(vectors) / f
        layers = {"input": vectors}
        if self.log_variance is not None:
            log_variance = FIRST_LOG_VARIANCE + self.log_variance(vectors)
            layers |= {"mean": shared, "log_variance": log_variance}
            if self.training and self.learn:
                shared = shared + (0.5 * log_variance).exp() * torch.randn_like(shared)
        private = vectors * (self.scale - self.first) + self._own(vectors, domains) / f
        both = shared + private
        layers |= {"shared": shared, "private": private, "reconstruction": both / self.scale + self.decoder(both) / f}
        # in half precision the parts are wider than h, and scores of wider vectors would be rounded otherwise
        return self._fused(shared, private).to(vectors.dtype), layers

    def _fused(self, shared: Tensor, private: Tensor) -> Tensor:
        if self.fuse is None:
            return shared if self.fusion == "shared" else shared + private
        change: Tensor = self.fuse(torch.cat([shared, private], 1))
        if self.fusion == "concat-linear":
            return shared + private + change / shared.shape[1]
        gate = change.sigmoid()
        return gate * shared + (1.0 - gate) * private

    def _own(self, vectors: Tensor, domains: Tensor) -> Tensor:
        """P_d h of each row's domain: a product a domain, since a weight a row would be f times the vectors."""
        order = domains.argsort(stable=True)
        sizes = torch.bincount(domains, minlength=len(self.private)).tolist()
        rows = torch.split(vectors[order], sizes)
        # a domain without rows takes part too: DistributedDataParallel wants every parameter in the graph
        own = torch.cat([F.linear(x, w) for x, w in zip(rows, self.private)])
        return own[order.argsort()]
