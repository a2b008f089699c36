"""Hashes of raw files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

_REMEMBERED = 1 << 24
"""Files of at least this many bytes are hashed once per (path, size, time of change)."""


def sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_hashes(files: Sequence[Path], memory_dir: Path) -> list[dict[str, str]]:
    """Hash raw files.

    Args:
        files: the files.
        memory_dir: folder of ``.hashes.json``, where the hashes of big files are remembered.

    Returns:
        ``name`` (without folder) and ``sha256`` of each, in order.
    """
    memory = memory_dir / ".hashes.json"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = dict(json.loads(memory.read_text()))
    result, fresh = [], {}
    for path in files:
        status = path.stat()
        key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        value = known.get(key) or sha256(path)
        if status.st_size >= _REMEMBERED and key not in known:
            fresh[key] = value
        result.append({"name": path.name, "sha256": value})
    if fresh:
        memory_dir.mkdir(parents=True, exist_ok=True)
        temporary = memory.with_name(f".hashes.{uuid.uuid4().hex[:8]}")
        temporary.write_text(json.dumps({**known, **fresh}, indent=1))
        os.replace(temporary, memory)
    return result
