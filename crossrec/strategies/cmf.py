"""Collective matrix factorisation."""

from __future__ import annotations

from crossrec.strategies.base import Strategy


class CMF(Strategy):
    """Factorise all domains' interaction matrices together, sharing the factors of shared users and items.

    Loss: sum over domains d of alpha_d * L_d with L_d the mean objective on the domain's rows and factors tied by
    global user id and by item entity (``item_encoder.share_entities=true``); ``domain_weights`` are the alpha_d.

    Source: Singh and Gordon, "Relational learning via collective matrix factorization", KDD 2008.
    Deviation: the link function and loss are the run's objective (BCE or BPR on implicit feedback) with stochastic
    gradients.
    """
