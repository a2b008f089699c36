"""One term a space."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from crossrec.adaptation.base import Adaptation
from crossrec.adaptation.options import SPACES


def by_space(terms: Mapping[str, Adaptation]) -> dict[str, Adaptation]:
    """Name every term by its key, and split one whose ``space`` is ``both``: a copy of users and one of items.

    The copies share nothing: each has its own parameters and running values, from the same seed. Their keys are
    ``<key>/users`` and ``<key>/items``; both keep the name ``<key>``.
    """
    split: dict[str, Adaptation] = {}
    for name, term in terms.items():
        term.name = name  # two terms of one class would log as one
        if term.space != "both":
            split[name] = term
            continue
        for space in SPACES["both"]:
            part = deepcopy(term)
            part.space, part.of_both = space, True
            split[f"{name}/{space}"] = part
    return split
