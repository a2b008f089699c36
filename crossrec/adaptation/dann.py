"""Domain-adversarial training: a critic that names a vector's domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossrec.adaptation.adversarial import AdversarialAdaptation, AdversarialOptions, CriticRows, DomainViews
from crossrec.adaptation.critics import Activation, check_critic
from crossrec.adaptation.numerics import check_width
from crossrec.adaptation.perceptron import mlp
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack

Goal = Literal["confusion", "reverse"]


class DANNOptions(AdversarialOptions, total=False):
    """Keyword arguments of every :class:`DANN`."""

    dim: int
    hidden: Sequence[int]
    activation: Activation
    goal: Goal
    seed: int


class DANN(AdversarialAdaptation):
    """Cross-entropy of a critic that tells N domains apart by their vectors.

    With p(d | x) the softmax over all N domains of a multilayer perceptron's outputs, P the domains that have rows in
    the batch and X_d the n_d rows of d, the critic lowers

        L = 1/|P| sum_{d in P} 1/n_d sum_{x in X_d} -log p(d | x).

    Every domain has the same share, so a critic that knows nothing has L = log N, whatever the domains' sizes. Under
    ``alternating`` the vectors lower -L (``goal=reverse``) or, which keeps a gradient where the critic is sure,

        1/|P| sum_{d in P} 1/n_d sum_{x in X_d} 1/|P| sum_{e in P} -log p(e | x)    (``goal=confusion``).

    Logged besides L: ``accuracy``, the mean over P of the share of the domain's rows that the critic names rightly;
    1/|P| is chance.

    Source: Ganin et al., "Domain-adversarial training of neural networks", JMLR 17 (2016), section 4.2, for the
    critic and the reversal; Tzeng et al., "Simultaneous deep transfer across domains and tasks", ICCV 2015, the domain
    confusion loss. Deviations: more than two domains, of equal shares; no dropout.

    Args:
        dim: f, the width of the vectors (``dim`` of the run).
        hidden: widths of the critic's hidden layers; none makes it linear.
        activation: ``relu``, or ``leaky_relu`` of slope 0.2.
        goal: of ``alternating``: ``confusion`` or ``reverse``.
        seed: of the critic's first values, which are Xavier-uniform, with zero biases.
        options: see :class:`AdversarialAdaptation`.

    Raises:
        CrossrecError: an option has none of its values, or the vectors are not ``dim`` wide.

    Example:
        >>> dann = DANN(dim=1, hidden=[])
        >>> dann.prepare(n_domains=4)
        >>> _ = nn.init.zeros_(dann.critic[0].weight)  # knows nothing
        >>> rows = CriticRows(torch.ones(3, 1), torch.tensor([0, 0, 2]), torch.ones(3))
        >>> round(dann.critic_loss(rows).item(), 4)  # log 4
        1.3863
    """

    def __init__(
        self,
        *,
        dim: int,
        hidden: Sequence[int] = (128,),
        activation: Activation = "relu",
        goal: Goal = "confusion",
        seed: int = 0,
        **options: Unpack[AdversarialOptions],
    ) -> None:
        super().__init__(**options)
        check_critic(self.name, dim, hidden, activation)
        if goal not in ("confusion", "reverse"):
            raise CrossrecError(f"adaptation.{self.name}.goal={goal!r} must be confusion or reverse")
        self.only_of("alternating", "goal", goal, "confusion")
        self.dim = dim
        self.hidden = tuple(hidden)
        self.activation = activation
        self.goal = goal
        self.seed = seed

    @property
    def width(self) -> int:
        """Width of what the critic reads."""
        return self.dim

    def build_critic(self, n_domains: int) -> nn.Module:
        """Make a perceptron with one output a domain."""
        return mlp([self.width, *self.hidden, n_domains], self.activation, self.seed)

    def features(self, view: DomainViews) -> Tensor:
        """Return the vectors."""
        check_width(self.name, self.dim, view.vectors)
        return view.vectors

    def critic_loss(self, rows: CriticRows) -> Tensor:
        """Cross-entropy L."""
        entropies = functional.cross_entropy(self.critic(rows.features), rows.domains, reduction="none")
        return rows.domain_means(entropies).mean()

    def encoder_loss(self, rows: CriticRows) -> Tensor:
        """Cross-entropy to the uniform distribution over the domains that have rows, or -L."""
        if self.goal == "reverse":
            return -self.critic_loss(rows)
        present = torch.unique(rows.domains)
        logs = functional.log_softmax(self.critic(rows.features), 1).index_select(1, present)
        return -rows.domain_means(logs.mean(1)).mean()

    def report(self, rows: CriticRows) -> None:
        """Log the accuracy of the critic, of equal shares of the domains, without the rows' weights."""
        right = (self.critic(rows.features).argmax(1) == rows.domains).to(rows.features.dtype)
        shares = torch.stack([right[rows.domains == d].mean() for d in torch.unique(rows.domains)])
        self.log("accuracy", shares.mean())
