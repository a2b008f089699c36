"""Vectors of texts on disk, computed once and shared by all runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crossrec.encoders.shards import Digests, Positions, Shards, replaced
from crossrec.encoders.text_model import TextModel
from crossrec.errors import CrossrecError

FORMAT = 2
"""Version of the files; caches of another version lie beside this one's."""

MEASURED = 10_000
"""Texts whose lengths are taken at once: their tokens are not kept."""


@dataclass(frozen=True)
class Features:
    """Vectors of texts, and what it took to have them.

    Attributes:
        vectors: (n, w) fp32, rounded through fp16.
        cut: how many of the n texts are longer than the model's ``max_length``.
        encoded: distinct texts that were not there and had to be encoded.
        seconds: that this took, with loading the model.
    """

    vectors: npt.NDArray[np.float32]
    cut: int
    encoded: int
    seconds: float


class FeatureCache:
    """A folder of vectors, addressed by content.

    ``<root>/<32 digits of the model's key>-<format>/`` holds ``meta.json``, which says what the key stands for, and
    :class:`~crossrec.encoders.shards.Shards`. Every distinct text is encoded once, batches have texts of like length,
    and an interrupted run keeps the shards it finished, so that the next one encodes the rest. A second process waits
    for the first one's lock; where locks do not work both write equal shards. A damaged shard is named in a warning and
    its texts are encoded anew.

    Args:
        root: folder, made when missing.
        batch_size: texts of one batch of the model.
        shard_batches: batches between two saves.
        shard_seconds: and the time after which what there is is saved, whatever the number of batches.
    """

    def __init__(
        self, root: str | Path, batch_size: int = 64, shard_batches: int = 64, shard_seconds: float = 60.0
    ) -> None:
        if batch_size < 1 or shard_batches < 1:
            raise CrossrecError(
                f"batch_size={batch_size} and shard_batches={shard_batches} of a cache must be at least 1"
            )
        self.root = Path(root)
        self.batch_size = batch_size
        self.shard_batches = shard_batches
        self.shard_seconds = shard_seconds

    def folder(self, model: TextModel) -> Path:
        """Folder of a model's vectors."""
        return self.root / f"{model.key[:32]}-{FORMAT}"

    def encode(self, texts: Sequence[str], model: TextModel, show_progress: bool = True) -> npt.NDArray[np.float32]:
        """Vectors (n, w) of :meth:`features` alone."""
        return self.features(texts, model, show_progress).vectors

    def features(self, texts: Sequence[str], model: TextModel, show_progress: bool = True) -> Features:
        """Return the vectors of ``texts``, encoding those that are not there yet.

        Where texts had to be encoded and some are too long for the model, a warning says how many.

        Args:
            texts: n texts, repeats allowed.
            model: what encodes them.
            show_progress: draw a bar on stderr while encoding.

        Raises:
            CrossrecError: the folder cannot be written, or the model gave a vector that is not finite in fp16.
        """
        if not texts:
            raise CrossrecError("there are no texts to encode: choose item_encoder=id for a data set without texts")
        distinct, back = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        wanted = digests(distinct)
        vectors, lengths, missing = self._read(model, wanted)
        started, encoded = time.perf_counter(), 0
        if len(missing):
            encoded = self._fill(distinct, wanted, model, show_progress)
            vectors, lengths, missing = self._read(model, wanted)
            if len(missing):
                raise CrossrecError(
                    f"vectors that were just written to {self.folder(model)} are damaged or gone: check the disk, or "
                    "set item_encoder.cache_dir"
                )
        cut = int((lengths[back] > model.max_length).sum()) if model.max_length else 0
        if encoded and cut:
            warnings.warn(f"{cut:,} of {len(texts):,} texts were cut at {model.max_length} tokens", stacklevel=3)
        return Features(vectors[back], cut, encoded, time.perf_counter() - started if encoded else 0.0)

    def _read(self, model: TextModel, wanted: Digests) -> tuple[npt.NDArray[np.float32], Positions, Positions]:
        try:
            return Shards(self.folder(model)).take(wanted)
        except OSError as error:
            raise CrossrecError(
                f"cannot read vectors from {self.folder(model)}: {error.strerror or error}; set item_encoder.cache_dir"
            ) from error

    def _fill(self, texts: npt.NDArray[np.object_], wanted: Digests, model: TextModel, show_progress: bool) -> int:
        """Encode what is missing; how many texts that were."""
        folder = self.folder(model)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _describe(folder, model)
            with _lock(folder / "lock", f"another process encodes with {model.model}: waiting for it") as alone:
                shards = Shards(folder)  # another process may have written them meanwhile
                if alone:
                    shards.sweep()
                missing = shards.take(wanted)[2]
                if shards.damaged:
                    for path in sorted(shards.damaged):
                        warnings.warn(f"{path} is damaged: its texts are encoded anew", stacklevel=4)
                    shards.drop_damaged()
                    shards = Shards(folder)  # without the sound rows of those shards, too
                    missing = shards.take(wanted)[2]
                self._add(texts[missing], wanted[missing], shards, model, show_progress)
        except OSError as error:
            raise CrossrecError(
                f"cannot write vectors to {folder}: {error.strerror or error}; set item_encoder.cache_dir"
            ) from error
        return len(missing)

    def _add(
        self, texts: npt.NDArray[np.object_], wanted: Digests, shards: Shards, model: TextModel, show_progress: bool
    ) -> None:
        parts = [texts[first : first + MEASURED].tolist() for first in range(0, len(texts), MEASURED)]
        lengths = np.concatenate([np.zeros(0, dtype=np.int64), *map(model.lengths, parts)])
        order = np.argsort(-lengths, kind="stable")  # longest first: little padding, and memory peaks at once
        blocks: list[npt.NDArray[np.float16]] = []
        saved, since = 0, time.monotonic()
        with _progress(show_progress) as bar:
            task = bar.add_task(f"encoding texts with {model.model}", total=len(order))
            for first in range(0, len(order), self.batch_size):
                rows = order[first : first + self.batch_size]
                blocks.append(_half(model, texts[rows].tolist()))
                bar.advance(task, len(rows))
                done = first + len(rows)
                full = len(blocks) >= self.shard_batches or time.monotonic() - since >= self.shard_seconds
                if full or done == len(order):
                    shard = order[saved:done]
                    shards.add(wanted[shard], lengths[shard], np.concatenate(blocks))
                    blocks, saved, since = [], done, time.monotonic()


def digests(texts: npt.NDArray[np.object_]) -> Digests:
    """Return the sha256 of every text's UTF-8, shape (n,), S32."""
    joined = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
    return np.frombuffer(joined, dtype="S32")


def _half(model: TextModel, texts: list[str]) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        vectors: npt.NDArray[np.float16] = model.encode(texts).numpy().astype(np.float16)
    if not np.isfinite(vectors).all():
        raise CrossrecError(f"the model {model.model!r} gave vectors beyond the range of fp16: it cannot be cached")
    return vectors


def _describe(folder: Path, model: TextModel) -> None:
    if not (folder / "meta.json").is_file():
        with replaced(folder / "meta.json") as file:
            file.write((json.dumps({"format": FORMAT, "key": model.key, **model.facts}, indent=2) + "\n").encode())


@contextlib.contextmanager
def _lock(path: Path, waiting: str) -> Iterator[bool]:
    """Hold a file's advisory lock; whether that could be had at all."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: equal shards are written twice, which is harmless
        yield False
        return
    with open(path, "ab") as file:  # closing it releases the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Console(stderr=True).print(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems have none either
            yield False
            return
        yield True


def _progress(show: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not show, transient=True)
