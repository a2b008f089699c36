"""What code made a run."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "crossrec", "torch", "pytorch-lightning", "hydra-core", "transformers", "torchmetrics", "polars", "numpy", "wandb",
)  # fmt: skip


def versions() -> dict[str, Any]:
    """Versions of Python and the packages that matter, and the git revision when run from a checkout."""
    return {"python": sys.version.split()[0], "platform": platform.platform(), **_packages(), "git": git_revision()}


@cache
def _packages() -> dict[str, str | None]:
    """Version of each of ``PACKAGES``, None of one that is missing; one process runs one version of each."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def git_revision() -> str | None:
    """Revision of the checkout that the package lies in, with ``+dirty`` when it has uncommitted changes."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root)]
    try:
        revision = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            [*command, "status", "--porcelain", "-uno"], capture_output=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("+dirty" if dirty else "")
