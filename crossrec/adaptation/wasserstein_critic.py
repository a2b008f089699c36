"""The Wasserstein distance between domains, as the best that a smooth critic finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crossrec.adaptation.adversarial import AdversarialAdaptation, CriticRows
from crossrec.adaptation.critics import Activation, check_critic
from crossrec.adaptation.numerics import check_width
from crossrec.adaptation.options import Options
from crossrec.adaptation.pairs import DomainViews, Pairs, Rows, domain_pairs
from crossrec.adaptation.perceptron import mlp
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class WassersteinCritic(AdversarialAdaptation):
    """Wasserstein-1 distance of the domains of a pair: the gap of the means of a critic of slope 1.

    With f_ab the critic's output for the pair a, b, the vectors x of n and y of m rows and means over pairs,

    - the critic lowers -W_ab + c E (|df_ab(z)/dz| - 1)^2, with W_ab = 1/n sum_i f_ab(x_i) - 1/m sum_j f_ab(y_j);
    - the vectors lower W_ab.

    z = e x_i + (1 - e) y_j for max(n, m) draws of e from [0, 1], of i and of j, with replacement, so n and m may
    differ. The numbers come from the seed and the count of critic steps, which is saved with the model.

    Training is alternating. Logged besides the losses: ``<a>-<b>`` -> W_ab, before the critic's steps of this batch, in
    units of the vectors: less than the distance W, or negative, where the critic has not learnt yet; more where it has,
    for the penalty is finite: between two shifted clouds the slope settles at 1 + W / (2 c), not at 1.

    Source: Arjovsky et al., "Wasserstein generative adversarial networks", ICML 2017, eq. (2) and algorithm 1; the
    penalty of Gulrajani et al., "Improved training of Wasserstein GANs", NIPS 2017, section 4; in domain adaptation
    Shen et al., "Wasserstein distance guided representation learning", AAAI 2018. Deviations: no weights are clipped
    (Arjovsky); z is drawn on lines between rows only, not at the rows as well (Shen); Adam's betas and rate are those
    of :class:`AdversarialAdaptation`.

    Args:
        dim: f, the width of the vectors (``dim`` of the run).
        hidden: widths of the critic's hidden layers, shared by the pairs; none makes it linear.
        activation: ``relu``, or ``leaky_relu`` of slope 0.2.
        penalty: c, positive.
        pairs: ``all``; ``target``: every other domain with the target; ``chain``: each with the next.
        rows: see :class:`AdversarialAdaptation`.
        critic_steps: for each step of the vectors, 1 or more.
        critic_lr: see :class:`AdversarialAdaptation`.
        seed: of the critic's first values, which are Xavier-uniform, with zero biases, and of e, i and j.
        options: see :class:`AdversarialAdaptation`.

    Raises:
        CrossrecError: an option has none of its values, or the vectors are not ``dim`` wide.
    """

    steps: Tensor

    def __init__(
        self,
        *,
        dim: int,
        hidden: Sequence[int] = (128,),
        activation: Activation = "leaky_relu",
        penalty: float = 10.0,
        pairs: Pairs = "all",
        rows: Rows = "all",
        critic_steps: int = 5,
        critic_lr: float = 1e-3,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rows=rows, mode="alternating", critic_steps=critic_steps, critic_lr=critic_lr, **options)
        check_critic(self.name, dim, hidden, activation)
        at_least(f"adaptation.{self.name}.penalty", penalty, 0, strictly=True)
        if pairs not in ("all", "target", "chain"):
            raise CrossrecError(f"adaptation.{self.name}.pairs={pairs!r} must be all, target or chain")
        self.dim = dim
        self.hidden = tuple(hidden)
        self.activation = activation
        self.penalty = float(penalty)
        self.pairs = pairs
        self.seed = seed
        self._outputs: dict[tuple[int, int], int] = {}
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # that the critic has taken

    def build_critic(self, n_domains: int) -> nn.Module:
        """Make a perceptron with one output for each two domains."""
        if self.rows != "all" and n_domains > 2:
            raise CrossrecError(
                f"adaptation.{self.name}.rows={self.rows} is of two domains, and {n_domains} train: set rows=all, or "
                "use a pairwise loss, which chooses rows for each pair"
            )
        two = [(a, b) for a in range(n_domains) for b in range(a + 1, n_domains)]
        self._outputs = {pair: i for i, pair in enumerate(two)} | {(b, a): i for i, (a, b) in enumerate(two)}
        return mlp([self.dim, *self.hidden, len(two)], self.activation, self.seed)

    def chosen(self, view: DomainViews, target: int | None) -> DomainViews:
        """Return rows in the order of ids, so that z is the same however many processes they come from.

        None where there is no pair, for want of the target's rows.
        """
        view = super().chosen(view, target)
        if not domain_pairs(torch.unique(view.domains).tolist(), target, self.pairs):
            return view.take(view.ids[:0])
        return view.take(view.ids.argsort())

    def features(self, view: DomainViews) -> Tensor:
        """Return the vectors."""
        check_width(self.name, self.dim, view.vectors)
        return view.vectors

    def distances(self, rows: CriticRows) -> dict[tuple[int, int], Tensor]:
        """W of each pair of domains that have rows, by their indices."""
        present: list[int] = torch.unique(rows.domains).tolist()
        means = dict(zip(present, (self.critic(rows.features[rows.domains == d]).mean(0) for d in present)))
        pairs = domain_pairs(present, rows.target, self.pairs)
        return {(a, b): (means[a] - means[b])[self._outputs[a, b]] for a, b in pairs}

    def critic_loss(self, rows: CriticRows) -> Tensor:
        """Negative distance, and the penalty."""
        generator = torch.Generator().manual_seed(hash((self.seed, int(self.steps))) % 2**63)
        losses = []
        for (a, b), distance in self.distances(rows).items():
            x, y = (rows.features[rows.domains == d] for d in (a, b))
            losses.append(self.penalty * self.excess(x, y, self._outputs[a, b], generator) - distance)
        if self.training and torch.is_grad_enabled():
            self.steps += 1
        return torch.stack(losses).mean()

    def encoder_loss(self, rows: CriticRows) -> Tensor:
        """Mean of the distances."""
        return torch.stack(list(self.distances(rows).values())).mean()

    def report(self, rows: CriticRows) -> None:
        """Log the distances."""
        for (a, b), distance in self.distances(rows).items():
            self.log(f"{a}-{b}", distance)

    def excess(self, x: Tensor, y: Tensor, output: int, generator: torch.Generator) -> Tensor:
        """Mean of (|gradient of an ``output`` of the critic| - 1)^2 on lines between rows of x (n, f) and y (m, f)."""
        k = max(len(x), len(y))
        i, j = (torch.randint(len(side), (k,), generator=generator).to(x.device) for side in (x, y))
        e = torch.rand(k, 1, generator=generator).to(x)
        with torch.enable_grad():
            z = (e * x[i] + (1.0 - e) * y[j]).detach().requires_grad_()
            total = self.critic(z)[:, output].sum()
        (slopes,) = torch.autograd.grad(total, z, create_graph=torch.is_grad_enabled())
        lengths = slopes.square().sum(1).clamp_min(1e-12).sqrt()  # of dead units: no derivative of a root at 0
        return (lengths - 1.0).square().mean()
