"""The contract of losses that train a critic against the vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from crossrec.adaptation.base import DomainViews, OnAllDomains
from crossrec.adaptation.gather import average_gradients
from crossrec.adaptation.options import Options
from crossrec.adaptation.pairs import Rows
from crossrec.adaptation.schedules import Schedule, schedule_of
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AdversarialAdaptation", "AdversarialOptions", "CriticRows", "DomainViews", "reverse_gradient"]

Mode = Literal["reversal", "alternating"]


class AdversarialOptions(Options, total=False):
    """Keyword arguments of every :class:`AdversarialAdaptation`."""

    rows: Rows
    mode: Mode
    reversal: float
    reversal_schedule: Schedule | str
    critic_steps: int
    critic_lr: float


@dataclass(frozen=True)
class CriticRows:
    """What a critic reads.

    Args:
        features: (n, w), of :meth:`AdversarialAdaptation.features`.
        domains: (n,) domain index; at least two different ones.
        weights: (n,) of :meth:`AdversarialAdaptation.weights`, without gradient.
        target: index of the target domain; None when every domain is one.
    """

    features: Tensor
    domains: Tensor
    weights: Tensor
    target: int | None = None

    def held(self) -> CriticRows:
        """Return the rows with features that get no gradient."""
        return replace(self, features=self.features.detach())

    def domain_means(self, values: Tensor) -> Tensor:
        """Mean of weight * value (n,) in each domain that has rows, in order of index."""
        of = torch.unique(self.domains).unsqueeze(1) == self.domains
        means: Tensor = of.to(values.dtype) @ (values * self.weights) / of.sum(1)
        return means


class AdversarialAdaptation(OnAllDomains):
    """A critic that tells domains apart, and vectors that are trained to fool it.

    The author writes :meth:`build_critic` and :meth:`critic_loss`, the loss L that the critic lowers, and may write
    :meth:`chosen`, :meth:`features` and :meth:`weights`, what it reads, :meth:`encoder_loss` and :meth:`report`. With
    w the weight times its schedule,

    - ``reversal``: the critic is trained with the strategy's optimizer on w L, and the vectors get -r w dL: r, the
      gradient-reversal coefficient with a schedule of its own, is another thing than the weight, at which 0 the critic
      learns nothing;
    - ``alternating``: at each training step the critic takes ``critic_steps`` Adam steps on L with the vectors held,
      and then the vectors are trained on w times :meth:`encoder_loss` (by default -L) with the critic held. Its
      optimizer is saved with the model. Where several processes train, each has the rows of all, and the critic's
      gradients are averaged: rounding alone would part the copies in time.

    Logged: ``adaptation/<name>/critic`` -> L, before the critic's steps of this batch; ``adaptation/<name>/encoder``
    -> the vectors' loss, under ``alternating``.

    Source: Ganin et al., "Domain-adversarial training of neural networks", JMLR 17 (2016), section 4.2, for the
    reversal; Goodfellow et al., "Generative adversarial nets", NIPS 2014, algorithm 1, for the alternation.

    Args:
        rows: see :class:`~crossrec.adaptation.base.OnAllDomains`.
        mode: ``reversal`` or ``alternating``.
        reversal: r, 0 or more, of ``reversal``.
        reversal_schedule: of ``reversal``; multiplies r; the name of a schedule or one, see :class:`Adaptation`.
        critic_steps: of ``alternating``, 1 or more.
        critic_lr: of ``alternating``, learning rate of the critic's Adam (betas 0.5 and 0.9), positive.
        options: see :class:`Adaptation`; with ``space=both`` there is a critic of users and one of items.

    Raises:
        CrossrecError: an option has none of its values, or is changed where it has no effect.
    """

    critic: nn.Module

    def __init__(
        self,
        *,
        rows: Rows = "all",
        mode: Mode = "reversal",
        reversal: float = 1.0,
        reversal_schedule: Schedule | str = "dann",
        critic_steps: int = 1,
        critic_lr: float = 1e-3,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rows=rows, **options)
        if mode not in ("reversal", "alternating"):
            raise CrossrecError(f"adaptation.{self.name}.mode={mode!r} must be reversal or alternating")
        at_least(f"adaptation.{self.name}.reversal", reversal, 0)
        if critic_steps < 1 or int(critic_steps) != critic_steps:
            raise CrossrecError(f"adaptation.{self.name}.critic_steps={critic_steps} must be a whole number from 1 on")
        at_least(f"adaptation.{self.name}.critic_lr", critic_lr, 0, strictly=True)
        self.mode = mode
        for option, value, default, of in (
            ("reversal", reversal, 1.0, "reversal"),
            ("reversal_schedule", reversal_schedule, "dann", "reversal"),
            ("critic_steps", critic_steps, 1, "alternating"),
            ("critic_lr", critic_lr, 1e-3, "alternating"),
        ):
            self.only_of(of, option, value, default)
        self.reversal = float(reversal)
        self.reversal_schedule = schedule_of(reversal_schedule)
        self.critic_steps = int(critic_steps)
        self.critic_lr = float(critic_lr)
        self._coefficient = 0.0
        self._optimizer: torch.optim.Optimizer | None = None
        self._loaded: dict[str, Any] | None = None

    def schedules(self) -> dict[str, Schedule]:
        """Return the schedules in use, by the option that sets them."""
        reversal = {"reversal_schedule": self.reversal_schedule} if self.mode == "reversal" else {}
        return {**super().schedules(), **reversal}

    def only_of(self, mode: str, option: str, value: object, default: object) -> None:
        """Refuse a ``value`` of an option that only ``mode`` reads, where the mode is the other."""
        if self.mode != mode and value != default:
            raise CrossrecError(
                f"adaptation.{self.name}.{option}={value!r} has no effect with mode={self.mode}: "
                f"set mode={mode}, or leave it {default!r}"
            )

    def build_critic(self, n_domains: int) -> nn.Module:
        """Make the critic; its first values must not come from the global random numbers."""
        raise NotImplementedError

    def critic_loss(self, rows: CriticRows) -> Tensor:
        """Return L, what the critic lowers, a scalar."""
        raise NotImplementedError

    def encoder_loss(self, rows: CriticRows) -> Tensor:
        """Return what the vectors lower under ``alternating``, by default -L."""
        return -self.critic_loss(rows)

    def features(self, view: DomainViews) -> Tensor:
        """Return what the critic reads (n, w), by default the vectors."""
        return view.vectors

    def weights(self, view: DomainViews) -> Tensor:
        """Return the rows' weights (n,), of mean 1 in each domain; by default 1 each."""
        return view.vectors.new_ones(len(view))

    def report(self, rows: CriticRows) -> None:
        """:meth:`log` more of the critic; called once a batch, before the critic's steps, without gradient."""

    def prepare(self, n_domains: int) -> None:
        """Build the critic; under ``alternating`` no other optimizer, and no gradient reduction, sees it."""
        self.critic = self.build_critic(n_domains)
        if self.mode == "alternating":
            self.critic.requires_grad_(False)

    def forward(
        self, views: Mapping[str, DomainViews], target: int | None = None, progress: float = 0.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted loss and what to log; see :meth:`Adaptation.forward`."""
        self._coefficient = self.reversal * self.reversal_schedule(progress)
        return super().forward(views, target, progress)

    def parts(self, view: DomainViews, target: int | None) -> Iterator[tuple[str, Tensor | None]]:
        """Yield what the vectors get a gradient of; None where fewer than two domains have ``min_rows`` rows."""
        label = "critic" if self.mode == "reversal" else "encoder"
        view = self.chosen(view, target)
        counts = torch.bincount(view.domains)
        enough = counts >= self.min_rows
        if int(enough.sum()) < 2:
            yield label, None
            return
        view = view.take(enough[view.domains])
        rows = CriticRows(self.features(view), view.domains, self.weights(view).detach(), target)
        with torch.no_grad():
            self.report(rows.held())
        if self.mode == "reversal":
            yield label, self.critic_loss(replace(rows, features=reverse_gradient(rows.features, self._coefficient)))
            return
        if self.training and torch.is_grad_enabled():
            self.log("critic", self._teach(rows.held()))
        else:
            with torch.no_grad():
                self.log("critic", self.critic_loss(rows.held()))
        yield label, self.encoder_loss(rows)

    def _teach(self, rows: CriticRows) -> Tensor:
        """Take the critic's own steps on held vectors; return its loss before them."""
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(self.critic.parameters(), lr=self.critic_lr, betas=(0.5, 0.9))
            if self._loaded is not None:  # not before the parameters are on their device
                self._optimizer.load_state_dict(self._loaded)
                self._loaded = None
        self.critic.requires_grad_(True)
        losses: list[Tensor] = []
        for _ in range(self.critic_steps):
            loss = self.critic_loss(rows)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            average_gradients(self.critic.parameters())
            self._optimizer.step()
            losses.append(loss.detach())
        self._optimizer.zero_grad()
        self.critic.requires_grad_(False)
        return losses[0]

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the critic's own optimizer, empty before its first step."""
        return self._optimizer.state_dict() if self._optimizer is not None else self._loaded or {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with a copy of the state of a checkpoint, which may be another model's live one."""
        self._loaded, self._optimizer = deepcopy(state) or None, None


def reverse_gradient(x: Tensor, coefficient: float) -> Tensor:
    """Return ``x``; its gradient comes back times ``-coefficient``."""
    reversed_: Tensor = _Reverse.apply(x, coefficient)  # type: ignore[no-untyped-call]
    return reversed_


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * -ctx.coefficient, None
