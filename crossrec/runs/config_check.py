"""What of a config can be told wrong before anything is built of it: options of its objects, and their types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crossrec.annotations import mismatch, parameters
from crossrec.config import OUTSIDE, option_files, sets, target_name, target_of
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least
from crossrec.suggestions import nearest

if TYPE_CHECKING:
    from crossrec.data.schema import Domain

WHOLE = {"seed": 0, "dim": 1, "batch_size": 1, "history_length": 1}
"""Config keys that are whole numbers, and the least each may be."""

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "32", "16", "bf16")
"""Weights stay in float32: ids and batches are not cast."""

TRAINER = {"check_val_every_n_epoch": 1, "gradient_clip_val": 0, "accumulate_grad_batches": 1}
"""Options of the trainer that are numbers, and the least each may be."""

MADE_OF = {"crossrec.runs.wandb_log.WandbLog": "crossrec.runs.wandb_mirror.Mirror"}
"""``_target_`` -> the class that its options are of, where that is another."""


def check(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
    """Check a run's config.

    Where a value is used in several places, as ``trainer.max_epochs`` is in a schedule, the place where it is set comes
    first; the data are checked when they are prepared.

    Args:
        config: the resolved config as plain values.
        overrides: the words that made it.

    Raises:
        CrossrecError: names the first key that is wrong, and what it may be.
    """
    from crossrec.evaluation.monitor import check_monitor, check_watched

    for key, least in WHOLE.items():
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise CrossrecError(f"{key}={value!r} must be a whole number from {least} on")
    precision = config["trainer"].get("precision", "32")
    if str(precision) not in PRECISIONS:
        raise CrossrecError(f"trainer.precision={precision} must be {', '.join(PRECISIONS)}")
    nodes = [found for key in config if key != "data" for found in _nodes(key, config[key])]
    setters = _setters(config, overrides)
    for key, node in sorted(nodes, key=lambda found: (found[0] != "trainer", found[0].count("."))):
        check_node(key, node, setters)
    for option, least in TRAINER.items():
        at_least(f"trainer.{option}", config["trainer"].get(option), least)
    epochs = config["trainer"].get("max_epochs")
    if epochs is not None and (epochs == 0 or epochs < -1):
        raise CrossrecError(
            f"trainer.max_epochs={epochs} must be at least 1, or -1 for as many as callbacks let it run"
        )
    check_monitor(config)
    check_watched(config)
    _check_beginning(config)


def check_domains(config: Mapping[str, Any], domains: Sequence[Domain]) -> None:
    """Check what of a run's config names domains of its corpus.

    Args:
        config: of the run, resolved.
        domains: of the corpus.

    Raises:
        CrossrecError: names the key and what it may be.
    """
    from crossrec.evaluation.monitor import check_watched
    from crossrec.runs.assemble import strategy_of

    names = [domain.name for domain in domains]
    check_target(config, names)
    target = target_of(config)
    strategy = strategy_of(config)
    check_watched(config, strategy.select_domains(domains, None if target is None else names.index(target)))


def _check_beginning(config: Mapping[str, Any]) -> None:
    """Refuse to begin with another run's weights where none are used."""
    from crossrec.runs.assemble import strategy_of
    from crossrec.runs.identity import beginning

    if beginning(config) is not None and not strategy_of(config).trains:
        raise CrossrecError(
            f"init.from={config['init']['from']} has no effect, because strategy={target_name(config['strategy'])} "
            "trains nothing: leave it out"
        )


def check_target(config: Mapping[str, Any], domains: Sequence[str] | None) -> None:
    """Check that the target of a run is a domain of its corpus.

    Args:
        config: of the run, resolved.
        domains: names of the corpus' domains; None where they are not known yet.

    Raises:
        CrossrecError: it is none; the message names the nearest.
    """
    target = target_of(config)
    if domains is not None and target is not None and target not in domains:
        raise CrossrecError(f"target={target}: the data have no such domain{nearest(target, [*domains, 'all'])}")


def _nodes(key: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with a ``_target_``, with its place."""
    if isinstance(value, Mapping):
        if value.get("_target_"):
            yield key, value
        for name, child in value.items():
            yield from _nodes(f"{key}.{name}", child)


def check_node(key: str, node: Mapping[str, Any], setters: Sequence[tuple[str, str]] = ()) -> None:
    """Check the options of one object against the class or function that makes it.

    Args:
        key: where the node is.
        node: with a ``_target_``.
        setters: see :func:`check_options`.

    Raises:
        CrossrecError: names the key and what it may be.
    """
    from hydra.utils import get_object

    target = str(node["_target_"])
    try:
        made = get_object(MADE_OF.get(target, target))
    except Exception as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise CrossrecError(f"{key}._target_={target} cannot be imported ({why}): is it on PYTHONPATH?") from error
    known, others = parameters(made)
    ours = [option for option in node if option in known]  # the yaml has every option of our own classes
    listed = None if node["_target_"].startswith(OUTSIDE) else ours
    check_options(key, node, known, others=others, listed=listed, of=_short(node), setters=setters)


def check_options(
    key: str,
    node: Mapping[str, Any],
    known: Mapping[str, Any],
    *,
    others: bool = False,
    listed: Sequence[str] | None = None,
    of: str = "",
    setters: Sequence[tuple[str, str]] = (),
) -> None:
    """Check options against names and types.

    Args:
        key: where the node is.
        node: the options.
        known: name -> annotation.
        others: let other names pass.
        listed: names to suggest; None for all known.
        of: what the options are of.
        setters: group and option of the yamls that may have set a key of another group.

    Raises:
        CrossrecError: names the key and what it may be.
    """
    for option, value in node.items():
        if option.startswith("_"):
            continue
        name = f"{key}.{option}"
        if option in known:
            if found := mismatch(name, value, known[option]):
                raise CrossrecError(f"{found.key}={found.value!r} must be {found.expected}")
        elif not others:
            by, instead = _set_by(key, option, setters)
            hint = instead or nearest(option, list(known if listed is None else listed))
            raise CrossrecError(f"{name}={value}{by} is no option of {of or key}{hint}")


def _short(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]


def _setters(config: Mapping[str, Any], overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Choices whose yaml may set keys of other groups."""
    chosen = [word.lstrip("+").partition("=")[2] for word in overrides if word.lstrip("+").startswith("experiment=")]
    return [("strategy", target_name(config["strategy"])), *(("experiment", name) for name in chosen)]


def _set_by(key: str, option: str, setters: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Say which choice set an option of another group, and what that choice goes with; empty where none did."""
    for group, name in setters:
        if name in (files := option_files(group)):
            made, chosen = sets(files[name][1])
            if option in (made.get(key) or {}):
                wanted = chosen.get(key)
                return f", which {group}={name} sets,", f": choose {key}={wanted}, or another {group}" if wanted else ""
    return "", ""
