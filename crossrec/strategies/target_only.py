"""The baseline that every transfer is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from crossrec.data.schema import Domain
from crossrec.errors import CrossrecError
from crossrec.strategies.base import Strategy


class TargetOnly(Strategy):
    """Train on the target domain's rows alone."""

    @classmethod
    def train_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Return the target domain only."""
        if target is None:
            names = ", ".join(d.name for d in domains)
            raise CrossrecError(f"strategy=target_only needs one target domain: set target to one of {names}")
        return [domains[target].name]
