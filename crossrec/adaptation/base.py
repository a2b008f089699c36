"""What an adaptation loss is: its author writes one method, these classes do the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crossrec.adaptation.gather import gather_views, world_size
from crossrec.adaptation.options import SPACES, Options, PairedOptions, Space
from crossrec.adaptation.pairs import (
    DomainViews,
    Pairs,
    Rows,
    check_rows,
    choose_rows,
    distinct,
    domain_pairs,
    known_in,
    matched,
)
from crossrec.adaptation.schedules import Schedule, schedule_of
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adaptation", "DomainViews", "PairedAdaptation", "PairwiseAdaptation", "PerDomainAdaptation"]


class Adaptation(nn.Module):
    """A loss on the domains' representations: weight * schedule(progress) * the mean over parts.

    A part is a pair of domains or one domain. A part without enough rows is a zero that is tied to the graph, and is
    left out of the mean. Before a subclass sees the vectors, masked rows are gone, one row for each id in each domain
    is left, the rows of all processes are gathered, half precision is fp32 and autocast is off.

    Args:
        name: in log keys and messages; None is the class's name in lower case. A strategy sets the name under which it
            has the term, and a run builds it with that: its key in ``adaptation`` of the config.
        weight: multiplies the loss, 0 or more; logged values are without it.
        schedule: a coefficient from the share of training that is spent, or the name of one: ``constant``, ``linear``,
            ``dann``, ``delayed``. Where weight times coefficient is 0 the loss is logged and nothing is differentiated.
        space: whose vectors are compared: ``users``, ``items``, or ``both``, of which a strategy makes two terms that
            share nothing (see :func:`~crossrec.adaptation.by_space.by_space`).

    Raises:
        CrossrecError: an option has none of its values.

    Attributes:
        compared: whether any batch held enough rows for a value.
        of_both: whether it is one of the two of a term of ``space=both``; it then logs under the space's name, too.
    """

    min_rows: int = 2
    """Rows that each side of a part needs."""

    needs: tuple[str, ...] = ()
    """Names of the ``layers`` of :class:`DomainViews` that this loss reads; it sees no others."""

    def __init__(
        self,
        *,
        name: str | None = None,
        weight: float = 1.0,
        schedule: Schedule | str = "constant",
        space: Space = "users",
    ) -> None:
        super().__init__()
        self.name = name or type(self).__name__.lower()
        if space not in SPACES:
            raise CrossrecError(f"adaptation.{self.name}.space={space!r} must be users, items or both")
        if isinstance(weight, str) or not 0 <= weight < math.inf:
            raise CrossrecError(f"adaptation.{self.name}.weight={weight!r} must be a finite number, 0 or more")
        self.weight = float(weight)
        self.schedule = schedule_of(schedule)
        self.space = space
        self.of_both = False
        self.compared = False
        self._more: dict[str, Tensor] = {}

    def prepare(self, n_domains: int) -> None:
        """Build what depends on the number of domains; called once, before the optimizer takes the parameters."""

    def schedules(self) -> dict[str, Schedule]:
        """Return the schedules in use, by the option that sets them."""
        return {"schedule": self.schedule}

    def log(self, key: str, value: Tensor) -> None:
        """Log one more number of this step: as ``adaptation/<name>/<key>``, averaged over the epoch."""
        self._more[key] = value.detach()

    def forward(
        self, views: Mapping[str, DomainViews], target: int | None = None, progress: float = 0.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted loss and what to log.

        Args:
            views: the batch's vectors, of this process: what ``space`` names, ``users`` or ``items``, or both.
            target: index of the target domain; None when every domain is one.
            progress: share of training that is spent, in [0, 1].

        Returns:
            The weighted value, a scalar, and ``adaptation/<name>/<a>-<b>`` -> the unweighted value of the pair,
            detached (``adaptation/<name>/<space>/<a>-<b>`` of one of two spaces); absent where there is none.

        Raises:
            CrossrecError: the strategy gave no such view or layer, a value is no scalar, or ``space`` is ``both``.
        """
        if self.space == "both":
            raise CrossrecError(f"adaptation.{self.name}.space=both is of two terms: make them with by_space")
        if self.space not in views:
            raise CrossrecError(
                f"adaptation.{self.name}.space={self.space}, but the strategy only shows {', '.join(views)}"
            )
        view = views[self.space]
        coefficient = self.weight * self.schedule(progress)
        entries: dict[str, Tensor] = {}
        with (
            torch.autocast(view.vectors.device.type, enabled=False),
            torch.set_grad_enabled(torch.is_grad_enabled() and coefficient != 0),
        ):
            value = self._mean(view, target, entries)
        return value * coefficient if coefficient else self.zero(view.vectors), entries

    def _mean(self, view: DomainViews, target: int | None, entries: dict[str, Tensor]) -> Tensor:
        for layer in self.needs:
            if layer not in view.layers:
                raise CrossrecError(
                    f"adaptation.{self.name} reads {layer!r}, but the strategy only shows "
                    f"{', '.join(view.layers) or 'the vectors themselves'}: strategy=shared_private shows shared, "
                    "private, input and reconstruction, and with strategy.variational=true mean and log_variance"
                )
        layers = {name: _whole(view.layers[name]) for name in self.needs}
        view = replace(view, vectors=_whole(view.vectors), layers=layers)
        view = distinct(view)
        if world_size() > 1:
            view = distinct(gather_views(view))
        prefix = f"adaptation/{self.name}/" + (f"{self.space}/" if self.of_both else "")
        total, count = self.zero(view.vectors), 0
        self._more = {}
        for label, value in self.parts(view, target):
            if value is not None and value.ndim:
                raise CrossrecError(
                    f"adaptation {self.name!r} gave a value of shape {tuple(value.shape)}: it must return one number"
                )
            if value is not None:
                entries[prefix + label] = value.detach()
                total, count = total + value, count + 1
        self.compared = self.compared or count > 0
        entries.update({prefix + key: value for key, value in self._more.items()})
        return total / max(count, 1)

    def zero(self, vectors: Tensor) -> Tensor:
        """Zero whose gradient exists for ``vectors`` and for every parameter of this loss."""
        total = vectors[:0].sum()  # of no row: a sum of all may overflow in half precision
        for parameter in self.parameters():
            total = total + parameter.sum() * 0.0
        return total

    def parts(self, view: DomainViews, target: int | None) -> Iterator[tuple[str, Tensor | None]]:
        """Yield the label and the value of every part; None where a side has fewer than ``min_rows`` rows."""
        raise NotImplementedError

    def enough(self, *sides: DomainViews) -> bool:
        """Whether every side has ``min_rows`` rows."""
        return all(len(side) >= self.min_rows for side in sides)


def _whole(vectors: Tensor) -> Tensor:
    return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors


class _OnPairs(Adaptation):
    def __init__(self, *, pairs: Pairs = "all", **options: Unpack[Options]) -> None:
        super().__init__(**options)
        if pairs not in ("all", "target", "chain"):
            raise CrossrecError(f"adaptation.{self.name}.pairs={pairs!r} must be all, target or chain")
        self.pairs = pairs

    def parts(self, view: DomainViews, target: int | None) -> Iterator[tuple[str, Tensor | None]]:
        by = {d: view.of(d) for d in torch.unique(view.domains).tolist()}
        for a, b in domain_pairs(sorted(by), target, self.pairs):
            x, y = self.sides(by[a], by[b], (a, b))
            yield f"{a}-{b}", self.compare(x, y, (a, b)) if self.enough(x, y) else None

    def sides(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> tuple[DomainViews, DomainViews]:
        """Rows of the two domains that are compared."""
        raise NotImplementedError

    def compare(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> Tensor:
        """Value of one pair of domains: its rows, and the indices of the two."""
        raise NotImplementedError


class PairwiseAdaptation(_OnPairs):
    """A distance between two domains' distributions; the author writes :meth:`distance`.

    Args:
        pairs: ``all``; ``target``: every other domain with the target, which is b; ``chain``: each with the next.
        rows: ``all``, only ids known in both domains of the pair (``overlap``), or only the others (``non_overlap``);
            see ``membership`` of :class:`DomainViews`.
        options: see :class:`Adaptation`.
    """

    def __init__(self, *, rows: Rows = "all", **options: Unpack[PairedOptions]) -> None:
        super().__init__(**options)
        check_rows(self.name, rows)
        self.rows = rows

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return how far apart two samples are, a scalar.

        Args:
            a: (n, f), distinct ids of one domain, n >= ``min_rows``.
            b: (m, f), of the other; m may differ from n.
        """
        raise NotImplementedError

    def sides(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> tuple[DomainViews, DomainViews]:
        """Choose the rows; see ``rows``."""
        return choose_rows(a, b, pair, self.rows)

    def compare(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> Tensor:
        """Call :meth:`distance`."""
        return self.distance(a.vectors, b.vectors)


class PairedAdaptation(_OnPairs):
    """A loss on the same ids seen in two domains; the author writes :meth:`paired`.

    Args:
        options: ``pairs`` as in :class:`PairwiseAdaptation`, the others as in :class:`Adaptation`.
    """

    min_rows = 1

    def __init__(self, **options: Unpack[PairedOptions]) -> None:
        super().__init__(**options)

    def paired(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the loss of matched rows, a scalar.

        Args:
            a: (k, f), k >= ``min_rows`` ids that are in both domains, as seen in one.
            b: (k, f), the same ids in the same order, as seen in the other.
        """
        raise NotImplementedError

    def sides(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> tuple[DomainViews, DomainViews]:
        """Match the rows by id."""
        return matched(a, b)

    def compare(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> Tensor:
        """Call :meth:`paired`."""
        return self.paired(a.vectors, b.vectors)


class OnAllDomains(Adaptation):
    """Base of losses that read the rows of all domains at once.

    Args:
        rows: ``all``, only ids known in two domains or more (``overlap``), or only the others (``non_overlap``); see
            ``membership`` of :class:`DomainViews`.
        options: see :class:`Adaptation`.
    """

    min_rows = 1

    def __init__(self, *, rows: Rows = "all", **options: Unpack[Options]) -> None:
        super().__init__(**options)
        check_rows(self.name, rows)
        self.rows = rows

    def chosen(self, view: DomainViews, target: int | None) -> DomainViews:
        """Return the rows that are read, by default those of the option ``rows``."""
        return known_in(view, self.rows)


class PerDomainAdaptation(OnAllDomains):
    """A loss on each domain by itself; the author writes :meth:`single`. Log keys end in the domain's index.

    Args:
        options: see :class:`OnAllDomains`.
    """

    def single(self, view: DomainViews) -> Tensor:
        """Return the loss of one domain's rows, a scalar; ids are distinct, and there are at least ``min_rows``."""
        raise NotImplementedError

    def parts(self, view: DomainViews, target: int | None) -> Iterator[tuple[str, Tensor | None]]:
        """Yield every domain's value."""
        view = self.chosen(view, target)
        for domain in torch.unique(view.domains).tolist():
            rows = view.of(domain)
            yield str(domain), self.single(rows) if self.enough(rows) else None
