"""Whether a strategy's adaptation terms have anything to do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from pytorch_lightning.utilities import rank_zero_warn

from crossrec.adaptation.base import (
    Adaptation,
    OnAllDomains,
    PairedAdaptation,
    PairwiseAdaptation,
    PerDomainAdaptation,
)
from crossrec.adaptation.options import SPACES
from crossrec.adaptation.schedules import Constant
from crossrec.errors import CrossrecError
from crossrec.strategies.finite import FiniteValues

if TYPE_CHECKING:
    from torch import Tensor

    from crossrec.strategies.base import Strategy


def check_terms(model: Strategy) -> None:
    """Refuse terms that cannot work with this strategy, and warn of those that will be zero.

    Raises:
        CrossrecError: a term would compare vectors with themselves.
    """
    for term in model.adaptation.values():
        if isinstance(term, PairedAdaptation):
            if not model.told_apart(term.space):
                raise CrossrecError(_one_vector(term.name, term.space))
            if not _in_two_domains(model, term.space):
                warnings.warn(
                    f"adaptation.{term.name} compares {term.space} that are in two domains, but none is: it is zero",
                    stacklevel=2,
                )


def shaped_spaces(model: Strategy) -> set[str]:
    """Spaces, ``users`` and ``items``, whose vectors a term of weight above 0 reads, as its own or as partners.

    The maps that a strategy adds to a tower are trained in these spaces, and nowhere else: so with all weights 0 it is
    strategy=merged.
    """
    spaces: set[str] = set()
    for term in model.adaptation.values():
        assert isinstance(term, Adaptation)
        if term.weight > 0:
            spaces.update(SPACES["both" if "partner" in term.needs else term.space])
    return spaces


def warn_of_unshaped(model: Strategy, spaces: Iterable[str]) -> None:
    """Warn of ``spaces`` whose added maps stay as they are, when all terms of weight above 0 read others."""
    shaped = shaped_spaces(model)
    for space in spaces:
        if shaped and space not in shaped:
            warnings.warn(
                f"{space} are scored as in strategy=merged, because no adaptation term of weight above 0 reads them: "
                f"give one space={space}",
                stacklevel=2,
            )


def check_budget(model: Strategy, steps: float) -> None:
    """Refuse schedules that need to know where training ends, when it has no end.

    Raises:
        CrossrecError: ``steps``, those of the whole training, are not finite.
    """
    if math.isfinite(steps):
        return
    if model.domain_weights is not None and not model.domain_weights.constant:
        raise CrossrecError(_endless("strategy.domain_weights", "a number for each domain"))
    for term in model.adaptation.values():
        assert isinstance(term, Adaptation)
        for option, schedule in term.schedules().items():
            if not isinstance(schedule, Constant):
                raise CrossrecError(
                    _endless(f"adaptation.{term.name}.{option}", f"adaptation.{term.name}.{option}=constant")
                )


def _endless(option: str, instead: str) -> str:
    return (
        f"{option} changes with the share of training that is spent, but training has no end: set trainer.max_epochs "
        f"or trainer.max_steps, or {instead}"
    )


def check_finite(model: Strategy, values: FiniteValues) -> None:
    """Refuse to go on when a part of the loss was not a finite number.

    Args:
        model: the strategy.
        values: of its training steps: what each term adds to the loss, by name, and the recommendation loss as "".

    Raises:
        CrossrecError: names the part that was so first; what comes after it is trained by it.
    """
    first = values.first_broken()
    if first is None:
        return
    where = f"NaN or infinite in epoch {model.current_epoch}"
    if not first:
        raise CrossrecError(f"the recommendation loss is {where}: lower optimizer.lr or check the objective")
    term = cast(Adaptation, model.adaptation[first])
    raise CrossrecError(
        f"adaptation.{term.name} gave a value that is {where}, on {term.space}: lower optimizer.lr or "
        f"adaptation.{term.name}.weight, or check the loss"
    )


def warn_of_nothing_compared(model: Strategy) -> None:
    """Warn of the terms that had no row to compare up to now."""
    for term in model.adaptation.values():
        assert isinstance(term, Adaptation)
        if not term.compared:
            rank_zero_warn(_nothing_compared(model, term))


def _nothing_compared(model: Strategy, term: Adaptation) -> str:
    """Why the term may have had no row to compare in an epoch, and the mend."""
    name = term.name
    said = f"adaptation.{name} has compared nothing in the first epoch" + (f" on {term.space}" if term.of_both else "")
    if isinstance(term, PairedAdaptation):
        if _in_two_domains(model, term.space):
            return f"{said}, because no batch held one id in two domains: raise batch_size"
        return (
            f"{said}, because no id is in two domains: choose a loss that needs no matched rows, such as "
            "adaptation=[mmd] or [coral]"
        )
    if isinstance(term, PairwiseAdaptation | OnAllDomains) and term.rows != "all":
        known = _domains_of(model, term.space)
        if not (known > 1 if term.rows == "overlap" else known == 1).any():
            lacking = "no id is in two domains" if term.rows == "overlap" else "no id is in one domain alone"
            other = ", or space to the other" if term.of_both else ""
            return f"{said}, because {lacking}: set adaptation.{name}.rows=all{other}"
        of = "ids in two domains" if term.rows == "overlap" else "ids in one domain alone"
        where = "a domain" if isinstance(term, PerDomainAdaptation) else "each domain"
        return (
            f"{said}, because no batch held {term.min_rows} or more rows of {where} with rows={term.rows}, {of}: "
            f"raise batch_size, or set adaptation.{name}.rows=all"
        )
    return (
        f"{said}, because no batch held enough rows of two domains: sampler=cycle gives every domain a share of each "
        "batch"
    )


def _in_two_domains(model: Strategy, space: str) -> bool:
    return bool((_domains_of(model, space) > 1).any())


def _domains_of(model: Strategy, space: str) -> Tensor:
    """Number of domains (n,) that each user, or entity of items, has training rows in."""
    return (model.membership if space == "users" else model.entity_membership).sum(1)


def _one_vector(name: str, space: str) -> str:
    if space == "users":
        return (
            f"adaptation.{name} has no two vectors to compare: a user looked up by id has one vector in all domains; "
            "choose a user_encoder of histories, or strategy=contrastive, which gives users a vector in each domain"
        )
    return (
        f"adaptation.{name} has no two vectors to compare: with item_encoder.share_entities=true an item has one "
        "vector in all domains; set it to false"
    )
