"""What a run is: the hash of everything that can change its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crossrec.config import target_name
from crossrec.errors import CrossrecError

SCIENCE = (
    "seed", "target", "dim", "batch_size", "history_length", "negatives", "positive_rating", "split", "sampler",
    "item_encoder", "user_encoder", "strategy", "adaptation", "objective", "optimizer", "scheduler", "evaluation",
    "callbacks", "compression",
)  # fmt: skip
"""Config keys that change a run's numbers; paths, loggers and launchers do not."""

WITHOUT = {"cache_dir", "query_batch_size", "gradient_checkpointing"}
"""Keys inside those that say where or in what portions a thing is computed, not what."""

MACHINE = {
    "accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar", "profiler", "detect_anomaly", "benchmark",
}  # fmt: skip
"""Trainer options that change no number; every other one may (the batch size is global, so devices do not)."""

PLACES = ("paths", "logger", "hydra", "checkpoint_every_n_steps", *(f"trainer.{key}" for key in sorted(MACHINE)))
"""Keys of a command line that say where and how to run, not what."""

TEXT_ENCODER = "crossrec.encoders.text.TextEncoder"
"""``_target_`` of the configs that name a pretrained text model of items."""

TEXT_ENCODERS = (TEXT_ENCODER, "crossrec.encoders.user_text.UserTextEncoder")
"""And of users."""

FROZEN: Mapping[str, Any] = {"_target_": "crossrec.encoders.tuning.Frozen"}
"""The group ``tuning`` of a text model that does not train."""

NEUTRAL: Mapping[str, Mapping[str, Any]] = {
    TEXT_ENCODER: {
        "template": None,
        "per_domain": False,
        "experts": None,
        "gate_noise": False,
        "tuning": FROZEN,
    },
    "crossrec.encoders.transformer.CausalTransformerEncoder": {"position_embedding": True},
    **{
        f"crossrec.adaptation.{name}": {"rows": "all"}
        for name in (
            "dann.DANN",
            "cdan.CDAN",
            "wasserstein_critic.WassersteinCritic",
            "entropy.ClusterEntropy",
            "simse.SIMSE",
            "club.CLUB",
            "mcc.MinimumClassConfusion",
            "prediction_entropy.PredictionEntropy",
            "difference.Difference",
            "vib.VIB",
        )
    },
}
"""``_target_`` -> options that came when there were recorded runs, with the value that changes nothing.

With that value they do not count, so that a new option makes no other runs of those.
"""


def terms(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Adaptation terms of a config by name; the configs of older records repeat it in each, as ``name``."""
    nodes = config.get("adaptation", {}).items()
    return {name: {key: v for key, v in node.items() if (key, v) != ("name", name)} for name, node in nodes}


def scientific(words: Sequence[str]) -> list[str]:
    """Return the overrides of a command line that say what to run: those that are not of :data:`PLACES`.

    >>> scientific(["dim=8", "logger.tags=[mine]", "+trainer.devices=2"])
    ['dim=8']
    """
    keys = [(word, word.partition("=")[0].lstrip("+~")) for word in words]
    return [word for word, key in keys if not any(key == p or key.startswith((f"{p}.", f"{p}/")) for p in PLACES)]


def filled(node: Any) -> Any:
    """A config with every option in it that came when there were recorded runs, at its neutral value."""
    if isinstance(node, list):
        return [filled(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: filled(value) for key, value in node.items()}
    return {**NEUTRAL.get(str(node.get("_target_")), {}), **made}


OURS = ("crossrec", "torch", "pytorch_lightning")


Outside = Callable[[str, Callable[[], str | None]], str | None]
"""What stands for a file that a config only names: (its name, how to hash it on this machine) -> its hash."""


def here(name: str, read: Callable[[], str | None]) -> str | None:
    """Hash the file on this machine."""
    return read()


def here_or(known: Mapping[str, str]) -> Outside:
    """Hash a file on this machine, and where it is not there take its hash from ``known`` (name -> hash)."""

    def found(name: str, read: Callable[[], str | None]) -> str | None:
        try:
            made = read()
        except CrossrecError:
            if name not in known:
                raise
            made = None
        return known.get(name) if made is None else made

    return found


def science(config: Mapping[str, Any], fingerprint: str, outside: Outside = here) -> dict[str, Any]:
    """Return the part of a resolved config that a run's numbers depend on.

    Code of the user's own counts by its source file, a pretrained model by its weights, and a run that this one begins
    from by its id and its weights, wherever it lies.

    Args:
        config: the resolved config as plain values.
        fingerprint: content address of the prepared corpus; stands for the whole ``data`` group.
        outside: how to hash those files.
    """
    kept = {key: _content(config[key], outside) for key in SCIENCE if key in config}
    kept["adaptation"] = {name: {"name": name, **_content(node, outside)} for name, node in terms(config).items()}
    if kept.get("positive_rating") is None:  # as in the configs of older records
        kept.pop("positive_rating", None)
    kept["target"] = "all" if kept["target"] is None else kept["target"]
    kept["trainer"] = {key: value for key, value in config["trainer"].items() if key not in MACHINE}
    kept["data"] = fingerprint
    if (init := beginning(config)) is not None:
        source = Path(init["from"])
        name = source.resolve().name
        weights = outside(weights_name(name), partial(_weights_hash, source))
        kept["init"] = {"run": name, "weights": weights, "freeze": sorted(init["freeze"])}
    return kept


def beginning(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the group ``init`` of a run that begins with another's weights; None of one that does not.

    Raises:
        CrossrecError: ``freeze`` is no list, or is given where nothing is handed over.
    """
    init: Mapping[str, Any] = config.get("init") or {}  # the configs of older records have none
    freeze = init.get("freeze") or []
    if not isinstance(freeze, list):
        raise CrossrecError(f"init.freeze={freeze!r} must be a list of parts, such as [user_encoder]")
    if freeze and not init.get("from"):
        raise CrossrecError(
            f"init.freeze=[{', '.join(freeze)}] keeps what is handed over, but init.from is null: name a run's folder"
        )
    return {"from": str(init["from"]), "freeze": freeze} if init.get("from") else None


def _content(node: Any, outside: Outside) -> Any:
    if isinstance(node, list):
        return [_content(v, outside) for v in node]
    if not isinstance(node, Mapping):
        return node
    neutral = NEUTRAL.get(str(node.get("_target_")), {})
    told = {k: v for k, v in node.items() if k not in WITHOUT and not (k in neutral and v == neutral[k])}
    made = {k: _content(v, outside) for k, v in told.items()}
    for key in ("_target_", "function"):
        if isinstance(path := node.get(key), str) and path.split(".")[0] not in OURS:
            made[f"{key} source"] = outside(f"source {path}", partial(_source_hash, path))
    if node.get("_target_") in TEXT_ENCODERS:
        del made["batch_size"]
        options = [str(node[key]) for key in ("model", "pooling", "prefix", "max_length")]
        made["model"] = outside(f"model {' '.join(options)}", partial(_model_key, node))
    return made


def weights_name(run: str) -> str:
    """Return what the weights of the run with this id are called where their hash is asked for."""
    return f"weights of {run}"


def _weights_hash(path: Path) -> str:
    from crossrec.runs.source import Source

    return Source(path).sha256


def _model_key(node: Mapping[str, Any]) -> str:
    from crossrec.encoders.text_model import text_model_of

    return text_model_of(node).key


def _source_hash(path: str) -> str | None:
    """Sha256 of the file of the module that ``path`` (``module.name``) names; None where there is none to be found."""
    try:
        spec = find_spec(path.rpartition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def run_id(config: Mapping[str, Any], fingerprint: str, outside: Outside = here) -> str:
    """Name of the run: ``<data>-<strategy>-<12 hex digits of the hash>``."""
    text = json.dumps(science(config, fingerprint, outside), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{target_name(config['data']['source'])}-{target_name(config['strategy'])}-{digest}"
