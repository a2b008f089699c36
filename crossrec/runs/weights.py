"""Read the checkpoints of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from pathlib import Path

    from crossrec.runs.store import RunFolder


def best_checkpoint(run: RunFolder) -> dict[str, Any]:
    """Checkpoint of a run's selected epoch, on the CPU.

    Raises:
        CrossrecError: it is gone, or is not whole; the message has the line that makes the run again.
    """
    if not run.best.is_file():
        wrong = f"run {run.id} has lost {run.best}"
    elif isinstance(found := _read(run.best), dict):
        return found
    else:
        wrong = f"{run.best} is no whole checkpoint ({found})"
    raise CrossrecError(f"{wrong}: delete the run's folder, and this line makes it again: {run.line()}")


def last_checkpoint(run: RunFolder) -> dict[str, Any] | None:
    """Checkpoint that a run resumes from, on the CPU; None where there is none yet.

    Raises:
        CrossrecError: it is not whole.
    """
    if not run.last.is_file():
        return None
    if isinstance(found := _read(run.last), dict):
        return found
    raise CrossrecError(f"{run.last} is no whole checkpoint ({found}): delete it, and the run begins anew")


def _read(path: Path) -> dict[str, Any] | str:
    """Read a checkpoint, or say why it cannot be read."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's, zipfile's or pickle's own, by where the file is cut
        return " ".join(str(error).split()).partition(". ")[0][:160] or type(error).__name__
    return state if isinstance(state, dict) and "state_dict" in state else "it has no state_dict"
