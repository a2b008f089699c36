"""What critics have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

Activation = Literal["relu", "leaky_relu"]


def check_critic(name: str, dim: int, hidden: Sequence[int], activation: str) -> None:
    """Refuse what no critic of the term ``name`` can be built from."""
    at_least(f"adaptation.{name}.dim", dim, 1)
    if any(width < 1 for width in hidden):
        raise CrossrecError(f"adaptation.{name}.hidden={list(hidden)} must be widths of 1 or more")
    if activation not in ("relu", "leaky_relu"):
        raise CrossrecError(f"adaptation.{name}.activation={activation!r} must be relu or leaky_relu")
