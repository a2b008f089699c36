"""The contract of losses that train a critic against the vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from crossrec.adaptation.base import Adaptation, DomainViews, Options
from crossrec.adaptation.schedules import Schedule, schedule_of
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AdversarialAdaptation", "AdversarialOptions", "DomainViews", "reverse_gradient"]

Mode = Literal["reversal", "alternating"]


class AdversarialOptions(Options, total=False):
    """Keyword arguments of every :class:`AdversarialAdaptation`."""

    mode: Mode
    reversal: float
    reversal_schedule: Schedule | str
    critic_steps: int
    critic_lr: float


class AdversarialAdaptation(Adaptation):
    """A critic that tells domains apart, and vectors that are trained to fool it.

    The author writes :meth:`build_critic` and :meth:`critic_loss`, the loss L that the critic lowers, and may write
    :meth:`features`, what it reads, and :meth:`encoder_loss`. With w the weight times its schedule,

    - ``reversal``: the critic is trained with the strategy's optimizer on w L, and the vectors get -r w dL: r, the
      gradient-reversal coefficient with a schedule of its own, is another thing than the weight, at which 0 the critic
      learns nothing;
    - ``alternating``: at each training step the critic takes ``critic_steps`` Adam steps on L with the vectors held,
      and then the vectors are trained on w times :meth:`encoder_loss` (by default -L) with the critic held. Its
      optimizer is saved with the model.

    Logged: ``adaptation/<name>/critic`` -> L, before the critic's steps of this batch.

    Source: Ganin et al., "Domain-adversarial training of neural networks", JMLR 17 (2016), eq. (13) to (18), for the
    reversal; Goodfellow et al., "Generative adversarial nets", NIPS 2014, algorithm 1, for the alternation.

    Args:
        mode: ``reversal`` or ``alternating``.
        reversal: r, 0 or more, of ``reversal``.
        reversal_schedule: multiplies r; the name of a schedule or one, see :class:`Adaptation`.
        critic_steps: of ``alternating``, 1 or more.
        critic_lr: learning rate of the critic under ``alternating``, positive.
        options: see :class:`Adaptation`.

    Raises:
        CrossrecError: an option has none of its values.
    """

    min_rows = 1
    critic: nn.Module

    def __init__(
        self,
        *,
        mode: Mode = "reversal",
        reversal: float = 1.0,
        reversal_schedule: Schedule | str = "dann",
        critic_steps: int = 1,
        critic_lr: float = 1e-3,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        if mode not in ("reversal", "alternating"):
            raise CrossrecError(f"adaptation.{self.name}.mode={mode!r} must be reversal or alternating")
        if not reversal >= 0:
            raise CrossrecError(f"adaptation.{self.name}.reversal={reversal} must be 0 or more")
        if critic_steps < 1:
            raise CrossrecError(f"adaptation.{self.name}.critic_steps={critic_steps} must be 1 or more")
        if not critic_lr > 0:
            raise CrossrecError(f"adaptation.{self.name}.critic_lr={critic_lr} must be positive")
        if self.space == "both":
            raise CrossrecError(
                f"adaptation.{self.name}.space=both needs a critic for users and one for items: use one term on each"
            )
        self.mode = mode
        self.reversal = float(reversal)
        self.reversal_schedule = schedule_of(reversal_schedule)
        self.critic_steps = int(critic_steps)
        self.critic_lr = float(critic_lr)
        self._coefficient = 0.0
        self._optimizer: torch.optim.Optimizer | None = None
        self._loaded: dict[str, Any] | None = None

    def build_critic(self, n_domains: int) -> nn.Module:
        """Make the critic; its first values must not come from the global random numbers."""
        raise NotImplementedError

    def critic_loss(self, features: Tensor, domains: Tensor) -> Tensor:
        """Return L, what the critic lowers, a scalar.

        Args:
            features: (n, w), of :meth:`features`.
            domains: (n,) domain index; at least two different ones.
        """
        raise NotImplementedError

    def encoder_loss(self, features: Tensor, domains: Tensor) -> Tensor:
        """Return what the vectors lower under ``alternating``; arguments as in :meth:`critic_loss`."""
        return -self.critic_loss(features, domains)

    def features(self, view: DomainViews) -> Tensor:
        """Return what the critic reads (n, w), by default the vectors."""
        return view.vectors

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
        """Yield the critic's value; None where fewer than two domains have rows."""
        counts = torch.bincount(view.domains)
        present = torch.nonzero(counts >= self.min_rows).squeeze(1)
        if len(present) < 2:
            yield "critic", None
            return
        if int((counts > 0).sum()) != len(present):
            view = view.take(torch.isin(view.domains, present))
        features = self.features(view)
        if self.mode == "reversal":
            yield "critic", self.critic_loss(reverse_gradient(features, self._coefficient), view.domains)
            return
        learns = self.training and torch.is_grad_enabled()
        before = self._teach(features.detach(), view.domains) if learns else None
        value = self.encoder_loss(features, view.domains)
        self.log("critic", self.critic_loss(features.detach(), view.domains) if before is None else before)
        yield "encoder", value

    def _teach(self, features: Tensor, domains: Tensor) -> Tensor:
        """Take the critic's own steps on held vectors; return its loss before them."""
        parameters = list(self.critic.parameters())
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(parameters, lr=self.critic_lr, betas=(0.5, 0.9))
            if self._loaded is not None:  # not before the parameters are on their device
                self._optimizer.load_state_dict(self._loaded)
        self.critic.requires_grad_(True)
        first: Tensor | None = None
        for _ in range(self.critic_steps):
            loss = self.critic_loss(features, domains)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            first = loss.detach() if first is None else first
        self._optimizer.zero_grad(set_to_none=True)
        self.critic.requires_grad_(False)
        assert first is not None
        return first

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the critic's own optimizer, empty before its first step."""
        return self._optimizer.state_dict() if self._optimizer is not None else self._loaded or {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with the state of a checkpoint."""
        self._loaded, self._optimizer = state or None, None


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
