"""A finished run whose weights another one begins with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crossrec.config import target_name
from crossrec.data.schema import Corpus
from crossrec.errors import CrossrecError
from crossrec.runs.corpus import recorded_corpus
from crossrec.runs.record import needs_weights
from crossrec.runs.store import RunFolder
from crossrec.runs.weights import best_checkpoint


class Source:
    """The weights of a run's selected epoch, and what is known of them.

    Args:
        path: run folder.

    Raises:
        CrossrecError: it holds no finished run, or no weights.
    """

    def __init__(self, path: Path) -> None:
        self.run = RunFolder(RunFolder.existing(path, "init.from=").path.resolve())
        if not self.run.finished:
            raise CrossrecError(
                f"init.from={path} is {self.run.state}, not finished; this line trains it to its end: {self.run.line()}"
            )
        needs_weights(self.run)
        self.config = self.run.config
        if self.run.metrics["best_epoch"] is None:
            name = target_name(self.config["strategy"])
            raise CrossrecError(f"init.from={path} is a run of strategy={name}, which trains nothing to begin with")
        if not self.run.best.is_file():
            raise CrossrecError(f"init.from={path} has lost {self.run.best}: delete the folder and train it again")

    @cached_property
    def state(self) -> Mapping[str, Any]:
        """Name -> value, of the selected epoch."""
        return _state(self.run.path)

    @property
    def sha256(self) -> str:
        """Hash of the names and values of :attr:`state`, wherever and however they are stored."""
        stat = self.run.best.stat()
        return _sha256(self.run.path, stat.st_size, stat.st_mtime_ns)

    def corpus(self, here: Corpus) -> Corpus:
        """Return the corpus it was trained on; ``here`` where it is the same one."""
        return here if self.has(here) else self._own

    @cached_property
    def _own(self) -> Corpus:
        return recorded_corpus(self.run)

    def has(self, corpus: Corpus) -> bool:
        """Whether it was trained on this corpus."""
        return self.run.fingerprint == corpus.fingerprint


def _state(folder: Path) -> Mapping[str, Any]:
    state: Mapping[str, Any] = best_checkpoint(RunFolder(folder))["state_dict"]
    return state


@lru_cache(maxsize=256)
def _sha256(folder: Path, size: int, changed: int) -> str:
    """Hash of the values of a run's checkpoint, once for a file of this size and time."""
    digest = hashlib.sha256()
    for name, value in sorted(_state(folder).items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"{name} {value!r}\n".encode())
    return digest.hexdigest()
