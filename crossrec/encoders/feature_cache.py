"""Vectors of texts on disk, computed once and shared by all runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError

FORMAT = 1
Digests = npt.NDArray[np.bytes_]


class FeatureCache:
    """A folder of vectors, addressed by content.

    ``<root>/<32 digits of the model's key>/`` holds ``meta.json``, which says what the key stands for, and shards: a
    ``vectors-<name>.npy`` of shape (k, w), fp16, read as a memory map, with its index ``texts-<name>.npy``, the k
    sha256 digests of the texts (S32). A shard is named by the hash of its index and exists once its index does. Every
    distinct text is encoded once; an interrupted run keeps the shards it finished and the next one encodes the rest; a
    second process waits for the first one's lock, and where locks do not work both write equal shards.

    Args:
        root: folder, made when missing.
        batch_size: texts of one batch of the model.
        shard_batches: batches between two saves.
    """

    def __init__(self, root: str | Path, batch_size: int = 64, shard_batches: int = 64) -> None:
        if batch_size < 1 or shard_batches < 1:
            raise CrossrecError(
                f"batch_size={batch_size} and shard_batches={shard_batches} of a cache must be at least 1"
            )
        self.root = Path(root)
        self.batch_size = batch_size
        self.shard_batches = shard_batches

    def folder(self, encoder: PretrainedText) -> Path:
        """Folder of a model's vectors."""
        return self.root / encoder.key[:32]

    def encode(
        self, texts: Sequence[str], encoder: PretrainedText, show_progress: bool = True
    ) -> npt.NDArray[np.float32]:
        """Return the vectors of ``texts``, encoding those that are not there yet.

        Args:
            texts: n texts, repeats allowed.
            encoder: the model.
            show_progress: draw a bar on stderr while encoding.

        Returns:
            (n, w) fp32, rounded through fp16.

        Raises:
            CrossrecError: the folder cannot be written, or the model gave a vector that is not finite in fp16.
        """
        if not texts:
            raise CrossrecError("there are no texts to encode: choose item_encoder=id for a data set without texts")
        distinct, back = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        wanted = digests(distinct)
        folder = self.folder(encoder)
        index = _Index(folder)
        if len(index.missing(wanted)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _describe(folder, encoder)
                with _lock(folder / "lock"):
                    index = _Index(folder)  # another process may have written them meanwhile
                    self._add(distinct, wanted, index.missing(wanted), folder, encoder, show_progress)
            except OSError as error:
                raise CrossrecError(
                    f"cannot write vectors to {folder}: {error.strerror or error}; set item_encoder.cache_dir"
                ) from error
            index = _Index(folder)
        return index.gather(wanted)[back]

    def _add(
        self,
        texts: npt.NDArray[np.object_],
        wanted: Digests,
        missing: npt.NDArray[np.int64],
        folder: Path,
        encoder: PretrainedText,
        show_progress: bool,
    ) -> None:
        lengths = np.fromiter(map(len, texts[missing]), dtype=np.int64, count=len(missing))
        order = missing[np.argsort(-lengths, kind="stable")]  # longest first: little padding, and memory peaks at once
        step = self.batch_size * self.shard_batches
        with _progress(show_progress) as bar:
            task = bar.add_task(f"encoding texts with {encoder.model}", total=len(order))
            for start in range(0, len(order), step):
                rows = order[start : start + step]
                blocks = []
                for first in range(0, len(rows), self.batch_size):
                    batch = texts[rows[first : first + self.batch_size]].tolist()
                    with np.errstate(over="ignore"):  # what overflows is refused when saved
                        blocks.append(encoder.encode(batch).numpy().astype(np.float16))
                    bar.advance(task, len(batch))
                _save_shard(folder, wanted[rows], np.concatenate(blocks), encoder)


class _Index:
    """The shards of a folder as they are now."""

    def __init__(self, folder: Path) -> None:
        found = [
            (path, folder / path.name.replace("texts-", "vectors-")) for path in sorted(folder.glob("texts-*.npy"))
        ]
        self._vectors = [np.load(vectors, mmap_mode="r", allow_pickle=False) for _, vectors in found]
        parts: list[Digests] = [np.load(path, allow_pickle=False) for path, _ in found]
        stored = np.concatenate([np.zeros(0, "S32"), *parts])
        self._sorted, first = np.unique(stored, return_index=True)
        sizes = np.array([len(p) for p in parts], dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        self._shard = np.repeat(np.arange(len(parts)), sizes)[first]
        self._row = first - (starts[self._shard] if len(parts) else 0)

    def _find(self, wanted: Digests) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        at = np.searchsorted(self._sorted, wanted).astype(np.int64)
        at[at == len(self._sorted)] = 0
        return at, self._sorted[at] == wanted if len(self._sorted) else np.zeros(len(wanted), dtype=np.bool_)

    def missing(self, wanted: Digests) -> npt.NDArray[np.int64]:
        """Positions of ``wanted`` that no shard has."""
        return np.flatnonzero(~self._find(wanted)[1]).astype(np.int64)

    def gather(self, wanted: Digests) -> npt.NDArray[np.float32]:
        """Vectors (n, w) of digests that are all there."""
        at, _ = self._find(wanted)
        out = np.empty((len(wanted), self._vectors[0].shape[1]), dtype=np.float32)
        for shard in np.unique(self._shard[at]):
            mine = np.flatnonzero(self._shard[at] == shard)
            out[mine] = self._vectors[shard][self._row[at[mine]]]
        return out


def digests(texts: npt.NDArray[np.object_]) -> Digests:
    """Return the sha256 of every text's UTF-8, shape (n,), S32."""
    joined = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
    return np.frombuffer(joined, dtype="S32")


def _save_shard(folder: Path, index: Digests, vectors: npt.NDArray[np.float16], encoder: PretrainedText) -> None:
    if not np.isfinite(vectors).all():
        raise CrossrecError(f"the model {encoder.model!r} gave vectors beyond the range of fp16: it cannot be cached")
    name = hashlib.sha256(index.tobytes()).hexdigest()[:16]
    _save(folder / f"vectors-{name}.npy", vectors)
    _save(folder / f"texts-{name}.npy", index)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with _renamed(path) as file:
        np.save(file, array, allow_pickle=False)


def _describe(folder: Path, encoder: PretrainedText) -> None:
    path = folder / "meta.json"
    if path.is_file():
        return
    facts = {
        "format": FORMAT,
        "key": encoder.key,
        "model": encoder.model,
        "pooling": encoder.pooling,
        "prefix": encoder.prefix,
        "max_length": encoder.max_length,
    }
    with _renamed(path) as file:
        file.write((json.dumps(facts, indent=2) + "\n").encode())


@contextlib.contextmanager
def _renamed(path: Path) -> Iterator[Any]:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system: equal shards are written twice, which is harmless
        yield
        return
    with open(path, "ab") as file:
        with contextlib.suppress(OSError):  # some network file systems have none either
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file releases the lock


def _progress(show: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not show, transient=True)
