"""The files of a feature cache: vectors of texts, with an index that finds and checks them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.bytes_]
Positions = npt.NDArray[np.int64]

ENTRY = np.dtype([("text", "S32"), ("length", "<i4"), ("crc", "<u4")])
"""What an index says of a vector: sha256 of its text, length of the text (before it was cut), CRC-32 of the vector."""


class Shards:
    """The shards of a folder as they are now; what is damaged counts as not there.

    A shard is ``vectors-<name>.npy`` of shape (k, w), fp16, read as a memory map, and ``index-<name>.npy``, its k
    entries (:data:`ENTRY`). It is named by the hash of its index and exists once that does.

    Args:
        folder: of the shards; need not exist.

    Attributes:
        damaged: files that were found damaged so far. A vector is checked when it is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: set[Path] = set()
        self._names: list[str] = []
        self._vectors: list[npt.NDArray[np.float16]] = []
        parts: list[npt.NDArray[Any]] = [np.zeros(0, ENTRY)]
        for path in sorted(folder.glob("index-*.npy")):
            name = path.stem.removeprefix("index-")
            index, vectors = _load(path), _load(folder / f"vectors-{name}.npy", mapped=True)
            if index is None or index.dtype != ENTRY or _name(index) != name:
                self.damaged.add(path)
            elif vectors is None or vectors.ndim != 2 or len(vectors) != len(index):
                self.damaged.add(folder / f"vectors-{name}.npy")
            else:
                self._names.append(name)
                self._vectors.append(vectors)
                parts.append(index)
        self._index = np.concatenate(parts)
        self._sorted, self._first = np.unique(self._index["text"], return_index=True)
        self._starts = np.cumsum([len(part) for part in parts])

    def take(self, wanted: Digests) -> tuple[npt.NDArray[np.float32], Positions, Positions]:
        """Read vectors.

        Returns:
            Vectors (n, w), lengths (n,) of their texts, and the positions in ``wanted`` that no sound shard has, whose
            rows are zero.
        """
        rows = self._find(wanted)
        width = self._vectors[0].shape[1] if self._vectors else 0
        out = np.zeros((len(wanted), width), dtype=np.float32)
        lengths = np.zeros(len(wanted), dtype=np.int64)
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        for s in np.unique(shard[rows >= 0]):
            at = np.flatnonzero(shard == s)
            vectors = self._vectors[s][rows[at] - self._starts[s]]
            entries = self._index[rows[at]]
            sound = _checksums(vectors) == entries["crc"]
            if not sound.all():
                self.damaged.add(self.folder / f"vectors-{self._names[s]}.npy")
                rows[at[~sound]] = -1
            out[at[sound]], lengths[at] = vectors[sound], entries["length"]
        return out, lengths, np.flatnonzero(rows < 0).astype(np.int64)

    def _find(self, wanted: Digests) -> Positions:
        """Row of every digest in all shards' entries, -1 where it is in none."""
        if not len(self._sorted):
            return np.full(len(wanted), -1, dtype=np.int64)
        at = np.searchsorted(self._sorted, wanted).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._first[at], -1).astype(np.int64)

    def add(self, texts: Digests, lengths: Positions, vectors: npt.NDArray[np.float16]) -> None:
        """Write a shard; this object goes on showing what was there before."""
        index = np.zeros(len(texts), ENTRY)
        index["text"], index["length"], index["crc"] = texts, lengths, _checksums(vectors)
        name = _name(index)
        for path, array in ((f"vectors-{name}.npy", vectors), (f"index-{name}.npy", index)):
            with replaced(self.folder / path) as file:
                np.save(file, array, allow_pickle=False)

    def drop_damaged(self) -> None:
        """Delete the shards of damaged files."""
        for path in self.damaged:
            name = path.stem.partition("-")[2]
            for kind in ("index", "vectors"):  # an index whose vectors are gone would be damaged, the reverse is not
                (self.folder / f"{kind}-{name}.npy").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what a killed process left half written; nobody may be writing."""
        for path in self.folder.glob(".tmp-*"):
            path.unlink(missing_ok=True)
        for path in self.folder.glob("vectors-*.npy"):
            if not path.with_name(path.name.replace("vectors-", "index-")).exists():
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when it is whole; it has the modes that the umask gives."""
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _load(path: Path, mapped: bool = False) -> npt.NDArray[Any] | None:
    """Read an array; None where the file is missing or damaged."""
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):  # a file that cannot be read for other reasons is no damage
        return None
    return found


def _name(index: npt.NDArray[Any]) -> str:
    return hashlib.sha256(index.tobytes()).hexdigest()[:16]


def _checksums(vectors: npt.NDArray[np.float16]) -> npt.NDArray[np.uint32]:
    rows = np.ascontiguousarray(vectors)
    return np.fromiter((zlib.crc32(row) for row in rows), dtype=np.uint32, count=len(rows))
