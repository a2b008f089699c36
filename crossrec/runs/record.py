"""A run's record: its folder without weights and with nothing of the machine, small enough to commit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.runs.identity import run_id, weights_name
from crossrec.runs.portable import hidden, portable_config, portable_line, portable_words
from crossrec.runs.reading import read_json
from crossrec.runs.store import RunFolder, write_frame, write_json, write_text

USERS = ("name", "n_relevant", "n_seen")
"""Columns of a per-user file that pairing needs besides a metric."""

PRESSED = 22
"""Level of zstd; the last one, as a record is written once and fetched by everybody."""


def write_record(run: RunFolder, folder: Path, metrics: Sequence[str], domains: Sequence[str]) -> RunFolder:
    """Write the record of a finished run to ``folder/<run id>``, over one that is there already.

    Args:
        run: the run; a record is copied.
        folder: of the records.
        metrics: of single users, to keep besides the one that the run selects by.
        domains: names of all domains of its corpus.

    Raises:
        CrossrecError: the run itself lies there.
    """
    record = RunFolder(folder / run.id)
    same = record.path.resolve() == run.path.resolve()
    if run.recorded:
        return record if same else RunFolder(Path(shutil.copytree(run.path, record.path, dirs_exist_ok=True)))
    if same:
        raise CrossrecError(f"{folder} is where the runs themselves lie: write their records to another folder")
    from omegaconf import OmegaConf

    config = run.config
    fingerprint = run.fingerprint
    shown, lost = portable_config(config)
    write_text(record.config_path, OmegaConf.to_yaml(OmegaConf.create(shown)))
    write_json(record.path / "overrides.json", portable_words(run.overrides))
    write_json(record.path / "versions.json", {k: v for k, v in run.versions.items() if k != "platform"})
    write_json(record.path / "corpus.json", {"fingerprint": fingerprint, "domains": list(domains)})
    write_json(record.path / "identity.json", {"outside": _outside(run, fingerprint), "lost": lost})
    for name in ("metrics.json", "fit.json", "gap.json", "log/metrics.csv"):
        if (run.path / name).is_file():
            write_text(record.path / name, (run.path / name).read_text())
    _write_transfer(run, record)
    _write_candidates(run, record)
    _write_users(run, record, [*metrics, str(run.metrics["monitor"])])
    status = {key: run.status[key] for key in ("started", "ended", "seconds") if key in run.status}
    write_json(record.path / "status.json", {"state": "recorded", **status, "config_dirs": _config_dirs(run, record)})
    check_record(record)
    return record


def check_record(record: RunFolder) -> None:
    """Check that a record's config and corpus make its id, by the recorded hashes of code and weights.

    A record whose id depends on an absolute path cannot be checked, and is not.

    Raises:
        CrossrecError: they make another id.
    """
    identity = _identity(record)
    made = run_id(record.config, record.fingerprint, lambda name, read: identity["outside"].get(name))
    if made != record.id and all(key.startswith("data.") for key in identity["lost"]):
        raise CrossrecError(
            f"{record.path} is not the record of the run it is named after (its config and corpus make {made}): take "
            "the committed folder again, or delete it"
        )


def outside_of(record: RunFolder) -> dict[str, str]:
    """Hashes of the files that a record's config only names, see :func:`~crossrec.runs.identity.science`."""
    return dict(_identity(record)["outside"])


def needs_weights(run: RunFolder) -> None:
    """Refuse the record of a run that was trained.

    Raises:
        CrossrecError: it is one; the message has the line that trains the run again.
    """
    if run.recorded and run.metrics.get("best_epoch") is not None:
        raise CrossrecError(
            f"{run.path} is the record of a run and has no weights; this line trains it again: {run.line()}"
        )


def _identity(record: RunFolder) -> dict[str, Any]:
    return dict(read_json(record.path / "identity.json"))


def _outside(run: RunFolder, fingerprint: str) -> dict[str, str]:
    found: dict[str, str] = {}
    known: dict[str, str] = {}
    if run.begun.is_file():  # the run that handed weights over may be gone
        begun = read_json(run.begun)
        known[weights_name(begun["run"])] = begun["sha256"]

    def note(name: str, read: Any) -> str | None:
        made: str | None = known.get(name) or read()
        if made is not None:
            found[hidden(name)] = made
        return made

    run_id(run.config, fingerprint, note)
    return found


def _config_dirs(run: RunFolder, record: RunFolder) -> list[str]:
    """Folders of configs as seen from the record, where both lie below the working directory."""
    here = Path.cwd().resolve()
    place = record.path.resolve()
    folders = [folder.resolve() for folder in run.config_dirs if place.is_relative_to(here)]
    return [os.path.relpath(folder, place) for folder in folders if folder.is_relative_to(here)]


def _write_users(run: RunFolder, record: RunFolder, metrics: Sequence[str]) -> None:
    import polars as pl

    for file in sorted((run.path / "per_user").glob("*.parquet")):
        there = pl.read_parquet_schema(file)
        columns = [name for name in dict.fromkeys((*USERS, *metrics)) if name in there]
        # at full precision: with one relevant item a metric has a few values, which compress alike in either
        write_frame(pl.read_parquet(file, columns=columns).sort("name"), record.path / "per_user" / file.name, PRESSED)


def _write_candidates(run: RunFolder, record: RunFolder) -> None:
    """Keep the hash of each domain's sampled candidates: pairing asks whether two runs have the same."""
    from crossrec.evaluation.protocols import domain_hashes

    if (run.path / "candidates.safetensors").is_file():
        write_json(record.path / "candidates.json", domain_hashes(run.path))


def _write_transfer(run: RunFolder, record: RunFolder) -> None:
    if (run.path / "transfer.json").is_file():
        found = read_json(run.path / "transfer.json")
        missing = [{**m, "line": portable_line(m["line"])} for m in found.get("missing", [])]
        write_json(record.path / "transfer.json", {**found, "missing": missing})
