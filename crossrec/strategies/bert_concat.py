"""The plain baseline: ids and texts of user and item side by side, classified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from crossrec.errors import CrossrecError
from crossrec.strategies.base import Strategy
from crossrec.strategies.pair_network import PairNetwork


class BertConcat(Strategy):
    """Classify pairs by a linear layer, or a perceptron, over [e_u; t_u; e_i; t_i].

    e are trained vectors of ids; t the pooled vectors that a language model has of a text of the user and of a text of
    the item (``user_encoder=id_and_text``, ``item_encoder=id_and_text``; other encoders by id leave parts out, and all
    widths follow). The score is the log-odds of a positive, and the loss binary cross-entropy on labelled pairs, of
    ratings (``positive_rating``) or with sampled negatives.

    A linear layer over a concatenation is additive in user and item: s = a_u + b_i. **So every user gets the same
    ranking**, that of b_i, whatever is known of them, and is told apart only by what they have seen already; a_u tells
    how likely the user is to like anything. It classifies, and does not personalise. With ``hidden`` layers it does:
    see :class:`~crossrec.strategies.pair_network.PairNetwork`.

    Source of scores by a perceptron on concatenated vectors: He et al., "Neural collaborative filtering", WWW 2017,
    section 3.3, the MLP. Deviations: texts stand beside ids, and layers are as wide as they are given.

    Args:
        hidden: widths of the hidden layers; none is the linear layer.
        dropout: rate on the input of every layer.
        arguments: of :class:`Strategy`.

    Raises:
        CrossrecError: adaptation terms, an objective that is not of labelled pairs, or users read by histories.
    """

    inner_product = False

    def __init__(self, *, hidden: Sequence[int] = (), dropout: float = 0.0, **arguments: Any) -> None:
        if terms := arguments.get("adaptation"):
            raise CrossrecError(
                f"strategy=bert_concat scores by a network and not in a space that terms could compare: remove "
                f"{', '.join(terms)} from adaptation=[...]"
            )
        if arguments["objective"].batch != "pointwise":
            raise CrossrecError(
                f"strategy=bert_concat classifies labelled pairs, which {type(arguments['objective']).__name__} is no "
                "loss of: choose objective=bce"
            )
        if arguments["user_encoder"].uses_history:
            raise CrossrecError(
                "strategy=bert_concat looks users up, and this user_encoder reads histories: choose "
                "user_encoder=id_and_text or id"
            )
        super().__init__(**arguments)
        self.network = PairNetwork(self.user_encoder.dim, self.item_encoder.dim, hidden, dropout)

    def pair_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Log-odds (m,) that ``users`` (m, user width) like ``items`` (m, item width)."""
        scores: Tensor = self.network(users, items)
        return scores

    def all_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Log-odds (q, n) that ``users`` (q, user width) like ``items`` (n, item width)."""
        return self.network.grid(users, items)
