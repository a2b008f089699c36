"""Training-free baseline: recommend what reads like the history."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from crossrec.data.batches import PAD, QueryBatch
from crossrec.encoders.text import TextEncoder
from crossrec.errors import CrossrecError
from crossrec.strategies.base import Strategy


class TextCosine(Strategy):
    """Score item j for user i by cos(mean of the unit text features of the history, text features of j).

    The features are those of the text item encoder before its adapter, so its whitening counts and nothing is trained.
    An item without text has the zero vector.

    Raises:
        CrossrecError: the item encoder is not a text encoder.
    """

    trains = False
    uses_history = True

    def prepare(self, counts: Tensor) -> None:
        """Check the item encoder; ``counts`` (n_items,) of training rows have no place in a cosine."""
        if not isinstance(self.item_encoder, TextEncoder):
            raise CrossrecError("strategy=text_cosine compares texts: choose item_encoder=text")

    def encode_users(self, users: Tensor, history: Tensor, domain: int) -> Tensor:
        """Mean unit feature (q, w) of the histories (q, l); zero where a history is empty."""
        return profiles(self._encoder.features, history)

    def catalogue(self, domain: int) -> Tensor:
        """Unit features (n_items, w) of a domain's items."""
        d = self.domains[domain]
        return F.normalize(self._encoder.features[d.start : d.stop], dim=-1)

    def users_for(self, batch: QueryBatch) -> Tensor:
        """Unit vectors (q, w) of the queries' users, so that scores are cosines."""
        return F.normalize(self.encode_users(batch.users, batch.history, batch.domain), dim=-1)

    @property
    def _encoder(self) -> TextEncoder:
        assert isinstance(self.item_encoder, TextEncoder)
        return self.item_encoder


def profiles(features: Tensor, history: Tensor) -> Tensor:
    """Mean unit feature (q, w) of histories (q, l), which name rows of ``features`` (n, w); zero for an empty one."""
    mask = (history != PAD).unsqueeze(-1)
    return (F.normalize(features[history.clamp_min(0)], dim=-1) * mask).sum(1) / mask.sum(1).clamp_min(1)
