"""User vectors learnt for each id."""

from __future__ import annotations

from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import UserEncoder
from crossrec.encoders.id import Init, init_table


class UserIdEncoder(UserEncoder):
    """One trainable vector for each user, shared by all the domains the user is in.

    Args:
        corpus: gives the users.
        dim: f, width of the vectors.
        init: ``normal`` or ``xavier``, see :func:`crossrec.encoders.id.init_table`.
        std: deviation of ``init=normal``.

    Raises:
        CrossrecError: ``init`` is neither.

    Shape:
        (b,) user ids -> (b, dim).
    """

    uses_history = False
    id_rows = ("table.weight",)

    def __init__(self, corpus: Corpus, dim: int = 64, *, init: Init = "normal", std: float = 0.02) -> None:
        super().__init__()
        self.dim = dim
        self.table = nn.Embedding(corpus.n_users, dim)
        init_table(self.table.weight.data, init, std)

    def forward(self, users: Tensor) -> Tensor:
        """Look ``users`` (b,) up: (b, dim)."""
        vectors: Tensor = self.table(users)
        return vectors
