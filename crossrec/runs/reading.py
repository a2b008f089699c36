"""Read the files of a run, and say which one a full disk or a broken copy has left unreadable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from crossrec.errors import CrossrecError


def broken(path: Path, error: Exception) -> CrossrecError:
    """Sentence on a file that cannot be read."""
    return CrossrecError(
        f"{path} is broken ({' '.join(str(error).split())}): delete it, and the command that made it writes it again; "
        "a record is copied again"
    )


def read_json(path: Path) -> Any:
    """Contents of a JSON file.

    Raises:
        CrossrecError: it is broken.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # not JSON, or not UTF-8
        raise broken(path, error) from None


def read_config(path: Path, *, resolve: bool) -> dict[str, Any]:
    """A config as plain values.

    Args:
        path: the YAML file.
        resolve: put values for interpolations.

    Raises:
        CrossrecError: it is broken.
    """
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        node = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise broken(path, error) from None
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=resolve))
