"""A text model whose vectors are cached in fewer dimensions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crossrec.encoders.feature_cache import FeatureCache, Features
from crossrec.encoders.model_files import ModelSize, file_digest
from crossrec.encoders.pooling import Pooling
from crossrec.encoders.text_model import TextModel, open_text_model
from crossrec.encoders.whitening import principal
from crossrec.errors import CrossrecError

ABOUT = "projection.json"
MAP = "projection.safetensors"
INSIDE = "model"
"""Folder, beside the map, of a model that has no place of its own."""


class Projection:
    """The principal components of vectors: z = (x - mu) P, and back x' = mu + z P', the nearest of its kind to x.

    P (w, k) are the eigenvectors of the vectors' covariance with the k largest eigenvalues.

    Source: Jolliffe, "Principal component analysis", Springer 2002, sections 1.1 and 3.2.

    Args:
        mean: mu, (w,).
        directions: P, (w, k).
        variances: (w,) all eigenvalues, the largest first.
    """

    def __init__(self, mean: Tensor, directions: Tensor, variances: Tensor) -> None:
        self.mean = mean
        self.directions = directions
        self.variances = variances

    @classmethod
    def fit(cls, vectors: Tensor, width: int) -> Projection:
        """Fit on ``vectors`` (n, w), in float64, n >= 2 and 1 <= ``width`` < w."""
        exact = vectors.double()
        mean = exact.mean(0)
        values, directions = principal(exact - mean)
        return cls(mean.float(), directions[:, :width].float(), values.float())

    @property
    def explained(self) -> float:
        """Share of the variance of the fitted vectors that the components have."""
        return float(self.variances[: self.directions.shape[1]].sum() / self.variances.sum().clamp_min(1e-30))

    def down(self, vectors: Tensor) -> Tensor:
        """Map (n, w) to (n, k)."""
        return (vectors - self.mean) @ self.directions

    def up(self, vectors: Tensor) -> Tensor:
        """Map (n, k) to (n, w)."""
        return self.mean + vectors @ self.directions.T

    def save(self, folder: Path, model: str | None, key: str) -> None:
        """Write the map to ``folder``.

        Args:
            folder: made if need be.
            model: name of the model whose vectors these are; None is the one in ``folder/model``.
            key: of that model.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"mean": self.mean, "directions": self.directions.contiguous(), "variances": self.variances}
        save_file(tensors, folder / MAP)
        (folder / ABOUT).write_text(json.dumps({"model": model, "key": key}, indent=2) + "\n")


def is_projection(model: str) -> bool:
    """Whether a model's name is a folder that :meth:`Projection.save` wrote."""
    return (Path(model).expanduser() / ABOUT).is_file()


class ProjectedText:
    """A text model whose vectors are the principal components of another's.

    Args:
        model: folder that :meth:`Projection.save` wrote.
        pooling: of the other model, as all that follows.
        prefix: see there.
        max_length: see there.

    Raises:
        CrossrecError: the other model is not there, or is not the one whose vectors the map was fitted on.
    """

    def __init__(self, model: str, pooling: Pooling | None, prefix: str, max_length: int | None) -> None:
        self.model = model
        self.max_length = max_length
        self.folder = Path(model).expanduser()
        about = json.loads((self.folder / ABOUT).read_text())
        name = str(self.folder / INSIDE) if about["model"] is None else about["model"]
        self.inner: TextModel = open_text_model(name, pooling, prefix, max_length)
        if self.inner.key != about["key"]:
            raise CrossrecError(
                f"{self.folder} was fitted on vectors of other files of {name!r}, or with another pooling, prefix or "
                "max_length: bring them back, or compress again"
            )

    @cached_property
    def projection(self) -> Projection:
        """The map."""
        return Projection(**load_file(self.folder / MAP))

    @cached_property
    def key(self) -> str:
        """Of the other model and the map."""
        return hashlib.sha256(f"{self.inner.key} {file_digest(self.folder / MAP)}".encode()).hexdigest()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the key stands for."""
        return {**self.inner.facts, "components": self.projection.directions.shape[1]}

    @property
    def size(self) -> ModelSize:
        """Of the other model, with the map."""
        weights, stored = self.inner.size
        mine = self.projection.mean.numel() + self.projection.directions.numel()
        return ModelSize(weights + mine, stored + (self.folder / MAP).stat().st_size)

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Length of every text, as the other model counts."""
        return self.inner.lengths(texts)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode one batch of texts to (n, k)."""
        return self.projection.down(self.inner.encode(texts))

    def restore(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Vectors (n, w) of the other model that components (n, k) stand for."""
        found: npt.NDArray[np.float32] = self.projection.up(torch.from_numpy(vectors)).numpy()
        return found


def read_features(cache: FeatureCache, texts: Sequence[str], model: TextModel) -> Features:
    """Features of ``texts`` as items have them: where a cache holds components, the vectors that these stand for."""
    found = cache.features(texts, model)
    return replace(found, vectors=model.restore(found.vectors)) if isinstance(model, ProjectedText) else found
