"""Against what the held-out items are ranked: the whole catalogue, or sampled candidates kept with the run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from torch import Tensor

from crossrec.errors import CrossrecError

SAMPLINGS = ("uniform", "popularity")
"""How candidates are drawn: every item alike, or by the number of its training rows."""


@dataclass(frozen=True)
class Full:
    """Rank the whole catalogue of the domain but the items the user has seen."""

    def __str__(self) -> str:
        return "full ranking"


@dataclass(frozen=True)
class Sampled:
    """Rank the held-out items among negatives drawn once per query; only to reproduce papers that did.

    Sampled metrics can order models differently from full ranking (Krichene and Rendle, KDD 2020).

    Args:
        n_candidates: negatives a query.
        sampling: one of :data:`SAMPLINGS`.

    Raises:
        CrossrecError: a value is not one of those.
    """

    n_candidates: int = 99
    sampling: Literal["uniform", "popularity"] = "uniform"

    def __post_init__(self) -> None:
        if self.n_candidates < 1:
            raise CrossrecError(f"evaluation.n_candidates must be 1 or more, not {self.n_candidates}")
        if self.sampling not in SAMPLINGS:
            raise CrossrecError(
                f"evaluation.candidate_sampling must be {' or '.join(SAMPLINGS)}, not {self.sampling!r}"
            )

    def __str__(self) -> str:
        return f"{self.n_candidates} {self.sampling} candidates"


def protocol(kind: str, n_candidates: int | None = None, sampling: str | None = None) -> Full | Sampled:
    """Read the keys ``protocol``, ``n_candidates`` and ``candidate_sampling`` of ``conf/evaluation``.

    Raises:
        CrossrecError: an unknown protocol, or sampled candidates asked of full ranking.
    """
    if kind == "full":
        if n_candidates:
            raise CrossrecError(
                f"evaluation.n_candidates={n_candidates} has no meaning under full ranking:"
                " set evaluation.protocol=sampled"
            )
        if sampling not in (None, "uniform"):
            raise CrossrecError(
                f"evaluation.candidate_sampling={sampling} has no effect under full ranking, which samples no "
                "candidates: leave it out, or choose evaluation=sampled_99 or sampled_999"
            )
        return Full()
    if kind == "sampled":
        if n_candidates is None:
            raise CrossrecError("evaluation.protocol=sampled needs evaluation.n_candidates, e.g. 99")
        return Sampled(int(n_candidates), cast(Literal["uniform", "popularity"], sampling or "uniform"))
    raise CrossrecError(f"evaluation.protocol must be full or sampled, not {kind!r}")


def candidate_hash(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 of names, types, shapes and values; the order of the mapping and the device do not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{values.dtype}\0{tuple(values.shape)}\0".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def domain_hashes(run: Path) -> dict[str, str]:
    """Hash of each domain's users and candidates in a run's folder, or in its record, which keeps the hashes alone."""
    if (run / "candidates.json").is_file():
        return dict(json.loads((run / "candidates.json").read_text()))
    tensors = load_candidates(run / "candidates.safetensors")
    domains = {name.rpartition("/")[0] for name in tensors}
    return {d: candidate_hash({k: v for k, v in tensors.items() if k.rpartition("/")[0] == d}) for d in sorted(domains)}


def save_candidates(path: Path | str, tensors: Mapping[str, Tensor]) -> None:
    """Write candidates (q, c) of each domain as safetensors; a reader sees the whole file or none."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save_file({name: values.detach().cpu().contiguous() for name, values in tensors.items()}, str(temporary))
    os.replace(temporary, path)


def load_candidates(path: Path | str) -> dict[str, Tensor]:
    """Read what :func:`save_candidates` wrote.

    Raises:
        CrossrecError: there is no such file, or it is not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise CrossrecError(f"no candidates at {path}: only runs of a sampled protocol have them")
    try:
        loaded: dict[str, Tensor] = load_file(str(path))
    except SafetensorError as error:
        raise CrossrecError(
            f"{path} is no safetensors file ({error}): delete it and run the evaluation again"
        ) from error
    return loaded
