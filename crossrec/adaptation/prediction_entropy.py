"""What a recommender predicts for its users among the items of a batch, and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crossrec.adaptation.base import PerDomainAdaptation
from crossrec.adaptation.numerics import entropies
from crossrec.adaptation.options import PerDomainOptions
from crossrec.adaptation.pairs import DomainViews
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class OnPredictions(PerDomainAdaptation):
    """A loss on the predictions of a domain's rows.

    Row i of a domain predicts p_ij = softmax_j(<x_i, v_j> / t) over the classes j: the different partners of that
    domain's rows in the (global) batch. For users these are the items they were seen with, for items the users.
    Partners have no ids here: those that are equal in every number are one class, so an item that many users of the
    batch were seen with is not a class many times. An encoder with dropout gives such copies different vectors, and
    then each is a class. A user with many rows in the batch counts once, and only its last item is a class.

    Args:
        temperature: t, positive; in units of the scores.
        domains: ``target``: the target domain alone, as in the literature, where it is the one without labels; ``all``:
            every domain, and the mean over them.
        options: see :class:`PerDomainAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.
    """

    min_rows = 2
    needs = ("partner",)

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        domains: Literal["target", "all"] = "target",
        **options: Unpack[PerDomainOptions],
    ) -> None:
        super().__init__(**options)
        at_least(f"adaptation.{self.name}.temperature", temperature, 0, strictly=True)
        if domains not in ("target", "all"):
            raise CrossrecError(f"adaptation.{self.name}.domains={domains!r} must be target or all")
        self.temperature = float(temperature)
        self.domains = domains

    def chosen(self, view: DomainViews, target: int | None) -> DomainViews:
        """Return the rows of the target, or of every domain.

        Raises:
            CrossrecError: ``domains=target`` without a target domain.
        """
        view = super().chosen(view, target)  # before the others go: they tell what is known in two domains
        if self.domains == "all":
            return view
        if target is None:
            raise CrossrecError(
                f"adaptation.{self.name}.domains=target needs one target domain: set target, or "
                f"adaptation.{self.name}.domains=all"
            )
        return view.of(target)

    def single(self, view: DomainViews) -> Tensor:
        """Value of one domain's rows."""
        classes = different_rows(view.layers["partner"])
        return self.loss((view.vectors @ classes.T / self.temperature).log_softmax(1))

    def loss(self, logs: Tensor) -> Tensor:
        """Return the loss of the predictions, a scalar.

        Args:
            logs: (n, c) log p_ij, n >= ``min_rows``, c from 1 to n.
        """
        raise NotImplementedError


class PredictionEntropy(OnPredictions):
    """Mean entropy of the predictions of a domain's rows among the batch's items.

    1/n sum_i H(p_i), H(p) = -sum_j p_j log p_j in nats: 0 where every row is sure of one item, log c where all c items
    score alike; 0 where the batch holds one item. Predictions p and classes: see :class:`OnPredictions`.

    Alone it is least for any sure answer, also the same item for everybody: it is to go with the recommendation loss.

    Source: Grandvalet and Bengio, "Semi-supervised learning by entropy minimization", NIPS 2004, the conditional
    entropy H_emp(Y|X, Z) of the unlabelled rows. Deviation: recommendation has labels in every domain, and the classes
    are the items of the batch.

    Args:
        options: see :class:`OnPredictions`.

    Example:
        >>> view = DomainViews(torch.zeros(2, 3), torch.zeros(2), torch.arange(2), layers={"partner": torch.eye(3)[:2]})
        >>> round(PredictionEntropy().single(view).item(), 4)  # log 2
        0.6931
    """

    def loss(self, logs: Tensor) -> Tensor:
        """Mean entropy of ``logs`` (n, c), in nats."""
        return entropies(logs).mean()


def different_rows(x: Tensor) -> Tensor:
    """Rows (c, f) of ``x`` (n, f) that differ, in no certain order; copies share the gradient.

    Example:
        >>> len(different_rows(torch.tensor([[2.0, 1.0], [0.0, 3.0], [2.0, 1.0]])))
        2
    """
    rows, group, counts = torch.unique(x.detach(), dim=0, return_inverse=True, return_counts=True)
    if len(rows) == len(x):
        return x
    return torch.zeros_like(rows).index_add(0, group, x / counts[group].unsqueeze(1).to(x.dtype))
