"""Statistic matching: merged training plus a distance between the domains' representations."""

from __future__ import annotations

from crossrec.errors import CrossrecError
from crossrec.strategies.base import Strategy


class StatisticMatching(Strategy):
    """Train on all domains and pull their user and item distributions together.

    Loss: L_rec + sum_k w_k D_k, with D_k the terms of ``adaptation`` (maximum mean discrepancy by default).

    Source: Long et al., "Learning transferable features with deep adaptation networks", ICML 2015, the objective of
    DAN: the task's loss plus lambda times a sum of MMDs. Deviations: the layers are the vectors of the user and item
    towers; the task has labels in all domains; any distance may stand for MMD.
    """

    def __init__(self, **arguments: object) -> None:
        if not arguments.get("adaptation"):
            raise CrossrecError("strategy=mmd needs at least one adaptation term: adaptation=[mmd]")
        super().__init__(**arguments)  # type: ignore[arg-type]
