"""Adversarial adaptation: merged training plus critics that tell domains apart."""

from __future__ import annotations

from collections.abc import Mapping

from crossrec.adaptation.adversarial import AdversarialAdaptation
from crossrec.errors import CrossrecError
from crossrec.strategies.base import Strategy


class Adversarial(Strategy):
    """Train on all domains, with vectors that critics cannot tell the domain of.

    Loss: L_rec + sum_k w_k L_k, with L_k the terms of ``adaptation``: one or more critics (:class:`DANN` by default),
    each on users or on items, and any others, such as MMD, beside them.

    Source: Ganin et al., "Domain-adversarial training of neural networks", JMLR 17 (2016), section 4.2, applied to the
    user and item towers; the task has labels in all domains.
    """

    def __init__(self, **arguments: object) -> None:
        terms = arguments.get("adaptation")
        if not isinstance(terms, Mapping) or not any(isinstance(t, AdversarialAdaptation) for t in terms.values()):
            raise CrossrecError(
                "strategy=adversarial needs at least one term with a critic, for instance adaptation=[dann]; "
                "without one, use strategy=mmd"
            )
        super().__init__(**arguments)  # type: ignore[arg-type]
