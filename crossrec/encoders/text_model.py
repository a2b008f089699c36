"""What makes vectors of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from crossrec.encoders.model_files import ModelSize
from crossrec.encoders.pooling import Pooling


class TextModel(Protocol):
    """A frozen model of texts. Nothing heavy is loaded before the first text is read."""

    @property
    def model(self) -> str:
        """The name it was asked for by."""
        ...

    @property
    def max_length(self) -> int | None:
        """Texts longer than that are cut; None where no text is."""
        ...

    @property
    def key(self) -> str:
        """64 hex digits that change whenever a text's vector could."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the key stands for, for a reader: plain JSON values."""
        ...

    @property
    def size(self) -> ModelSize:
        """How large the model is; it may have to be loaded to know."""
        ...

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Length (n,) of every text, in the unit of ``max_length``, before it is cut."""
        ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode one batch of texts to (n, w), fp32 on the CPU."""
        ...


READS = ("model", "pooling", "prefix", "max_length")
"""Options of a text encoder that make, with the model's files, the vector of a text."""


def text_model_of(node: Mapping[str, Any]) -> TextModel:
    """Open the text model that a text encoder's config names; see :func:`open_text_model`."""
    return open_text_model(*(node[key] for key in READS))


def open_text_model(
    model: str, pooling: Pooling | None = "mean", prefix: str = "", max_length: int | None = 64
) -> TextModel:
    """Choose by name: ``use`` is the multilingual Universal Sentence Encoder, all else a model of `transformers`.

    Args:
        model: ``use``, or see :class:`~crossrec.encoders.pretrained.PretrainedText`.
        pooling: see there; None for ``use``.
        prefix: put before every text.
        max_length: in tokens; None for ``use``.

    Raises:
        CrossrecError: the model is not there, or has no use for one of the options.
    """
    from crossrec.encoders.projection import ProjectedText, is_projection

    if is_projection(model):
        return ProjectedText(model, pooling, prefix, max_length)
    if model == "use":
        from crossrec.encoders.universal import UniversalSentences

        return UniversalSentences(pooling, prefix, max_length)
    from crossrec.encoders.pretrained import PretrainedText

    return PretrainedText(model, pooling, prefix, max_length)
