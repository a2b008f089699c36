"""What a W&B run on disk holds, read after W&B's service has ended: it writes behind ``finish``."""

import json
import struct
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def offline_runs(folder: Path) -> list[Path]:
    """Files of the offline runs below a folder, in the order they started."""
    return sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def records(path: Path) -> list[Any]:
    """The records of a ``.wandb`` file: a LevelDB log (blocks of 32 KB, chunks of crc, length, type) of protobufs."""
    import wandb
    from wandb.proto import wandb_internal_pb2 as pb

    wandb.teardown()
    data, at, part, found = path.read_bytes(), HEADER, b"", []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        part += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last chunk
            found.append(pb.Record.FromString(part))
            part = b""
    return found


def one(path: Path, kind: str) -> Any:
    """The only record of that kind."""
    (record,) = (getattr(r, kind) for r in records(path) if r.WhichOneof("record_type") == kind)
    return record


def config(path: Path) -> dict[str, Any]:
    """The config of a run."""
    return {item.key: json.loads(item.value_json) for item in one(path, "run").config.update}


def rows(path: Path) -> list[dict[str, Any]]:
    """What was logged, a dictionary each time."""
    found = [r.history for r in records(path) if r.WhichOneof("record_type") == "history"]
    return [{i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in h.item} for h in found]


def summary(path: Path) -> dict[str, Any]:
    """The last word on every key that was set on the summary."""
    found = [r.summary for r in records(path) if r.WhichOneof("record_type") == "summary"]
    return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for s in found for i in s.update}


def exit_code(path: Path) -> int:
    """With which code the run was finished."""
    return int(one(path, "exit").exit_code)
