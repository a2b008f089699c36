"""The text model of a run that is to be compressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossrec.compression.base import Original, read_all
from crossrec.encoders.compressed import memory
from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.item_texts import item_texts
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.projection import MAP, ProjectedText
from crossrec.encoders.text import TextEncoder
from crossrec.encoders.text_model import TextModel, text_model_of
from crossrec.encoders.tuned_text import TunedText
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import Assembly
from crossrec.runs.compressed import text_encoders


@dataclass(frozen=True)
class RunText:
    """A run's text model, its own weights in it, and the run's texts.

    Args:
        model: reads texts as the run does.
        named: whether the files that the run's config names are all of it, so that others need no copy.
        original: what a compression may learn from.
        texts: distinct texts of all items.
        stored: bytes of its weights in files.
    """

    model: TextModel
    named: bool
    original: Original
    texts: Sequence[str]
    stored: int

    @property
    def network(self) -> nn.Module:
        """Its network, on its device.

        Raises:
            CrossrecError: it is no model of `transformers`.
        """
        if not isinstance(self.model, PretrainedText):
            raise CrossrecError(
                f"the text model {self.model.model!r} has no network of transformers to change: choose method=pca"
            )
        return self.model.network


def run_text(parts: Assembly, config: Mapping[str, Any]) -> RunText:
    """Find the text model of a run.

    Args:
        parts: its objects, with the weights of the selected epoch.
        config: the one they were built by.

    Raises:
        CrossrecError: the run has none or several, it is compressed to principal components, or its vectors are made
            by a network beside it.
    """
    nodes = list(text_encoders(config["item_encoder"]))
    encoders = [part for part in parts.model.modules() if isinstance(part, TextEncoder)]
    if len(nodes) != 1 or len(encoders) != 1:
        raise CrossrecError(
            f"this run has {len(nodes)} text models, and one is compressed: choose a run of item_encoder=text, use or "
            "id_text"
        )
    node, tower = nodes[0], encoders[0].tower
    model = text_model_of(node)
    if isinstance(model, ProjectedText):
        raise CrossrecError("this run's vectors are principal components already: compress the run that it was made of")
    if tower is not None:
        if not isinstance(tower, TunedText):
            raise CrossrecError(
                "tuning=side_network makes vectors of the states of the text model's layers, which a compressed model "
                "has not: choose a run of another tuning"
            )
        assert isinstance(model, PretrainedText)
        model = model.holding(merged(deepcopy(tower.model)))
    series = item_texts(parts.corpus, node["fields"], node["template"])
    learned = series.is_not_null().to_numpy() & parts.datamodule.train_item_mask().numpy()
    cache = FeatureCache(node["cache_dir"], node["batch_size"])

    def read(texts: Sequence[str]) -> Tensor:
        if tower is None:
            return torch.from_numpy(cache.encode(texts, model))
        assert isinstance(model, PretrainedText)
        return read_all(model, texts, node["batch_size"])

    training = series.filter(learned).to_list()
    original = Original(model, training, read, node["batch_size"])
    stored = memory(model.network) if tower is not None and isinstance(model, PretrainedText) else stored_bytes(model)
    named = tower is None and config.get("compression") is None
    distinct = series.drop_nulls().unique(maintain_order=True).to_list()
    return RunText(model, named, original, distinct, stored)


def stored_bytes(model: TextModel) -> int:
    """Bytes of the files that hold a model's weights."""
    if isinstance(model, ProjectedText):
        return stored_bytes(model.inner) + (model.folder / MAP).stat().st_size
    if isinstance(model, PretrainedText):
        return sum(path.stat().st_size for path in model.files.paths if path.suffix in (".safetensors", ".gguf"))
    return model.size.bytes


def sample(model: TextModel, texts: Sequence[str], count: int) -> list[str]:
    """Draw texts to time a model on, longest first."""
    if count < len(texts):
        chosen = np.random.default_rng(0).choice(len(texts), count, replace=False)
        texts = [texts[int(row)] for row in sorted(chosen)]
    order = np.argsort(-model.lengths(texts), kind="stable")
    return [texts[int(row)] for row in order]


def merged(network: nn.Module) -> nn.Module:
    """Put the low-rank updates of a network into its matrices, in place."""
    from crossrec.encoders.int8 import replace

    for name, part in list(network.named_modules()):
        if hasattr(part, "get_base_layer") and hasattr(part, "merge"):
            part.merge()  # type: ignore[operator]
            replace(network, name, part.get_base_layer())  # type: ignore[operator]
    return network
