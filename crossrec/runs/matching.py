"""Which encoders of two configs are the same thing, so that weights of the one mean something in the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from crossrec.encoders.text_model import READS, text_model_of
from crossrec.errors import CrossrecError
from crossrec.runs.identity import FROZEN, TEXT_ENCODER, filled

TOWERS = ("user_encoder", "item_encoder")
"""Config groups, and modules of a strategy, whose weights are handed over."""

MEANS = ("fields", "template", "whitening", "whitening_dim", "per_domain", "adapter", "experts", "gate_noise")
"""Options of a text encoder, besides those and ``tuning``, that its adapter's weights go with."""

TRAINING = {"dropout", "attention_dropout", "init", "std", "_partial_"}
"""Options of any encoder that its weights do not depend on."""

READING = {"history", "position_embedding", "domain_embedding", "domain_weights"}
"""Options of user encoders that say what is read: the weights are of use either way."""

TUNING_FREE = {"lr", "dropout", "model_dropout", "gradient_checkpointing"}
"""Options of a tuning regime that its weights do not depend on."""


class Part(NamedTuple):
    """An encoder that is no fusion of others.

    Attributes:
        name: of its module in a strategy, such as ``item_encoder.encoders.text``.
        node: its config.
    """

    name: str
    node: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What it is built from."""
        return str(self.node["_target_"])


def parts(config: Mapping[str, Any], tower: str) -> list[Part]:
    """Encoders of a tower; those of a fusion, one by one."""
    return list(_parts(tower, config[tower]))


def _parts(name: str, node: Mapping[str, Any]) -> Iterator[Part]:
    if "encoders" not in node:
        yield Part(name, node)
    for key, child in node.get("encoders", {}).items():
        yield from _parts(f"{name}.encoders.{key}", child)


def pairs(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[tuple[Part, Part]]:
    """Encoders of two configs, one of each, that are of one kind.

    Item encoders are found wherever they stand, if there is one of their kind in each config; several, and user
    encoders, by their name.
    """
    found = []
    for tower in TOWERS:
        mine, theirs = parts(here, tower), parts(there, tower)
        for part in mine:
            others = [other for other in theirs if other.kind == part.kind]
            alone = tower == "item_encoder" and len(others) == 1 == sum(p.kind == part.kind for p in mine)
            found += [(part, other) for other in others if alone or other.name == part.name]
    return found


def check(here: Part, there: Part, run: str) -> None:
    """Refuse a part whose weights mean something else there.

    Args:
        here: of this run.
        there: of the run that hands over.
        run: id of that run.

    Raises:
        CrossrecError: an option differs; the message has both values.
    """
    if here.kind == TEXT_ENCODER:
        _check_text(here, there, run)
        return
    mine, theirs = (filled(part.node) for part in (here, there))
    for key in dict.fromkeys([*mine, *theirs]):
        if key not in TRAINING | READING and mine.get(key) != theirs.get(key):
            raise refusal(f"{here.name}.{key}", mine.get(key), theirs.get(key), run)


def _check_text(here: Part, there: Part, run: str) -> None:
    mine, theirs = (filled(part.node) for part in (here, there))
    for key in (*READS, *MEANS):
        if mine[key] != theirs[key] and not (key == "model" and _same_model(mine, theirs)):
            raise refusal(f"{here.name}.{key}", mine[key], theirs[key], run)
    if theirs["tuning"] == FROZEN:  # the towers of all regimes begin as the frozen model
        return
    kinds = [str(options["tuning"]["_target_"]).rpartition(".")[2] for options in (mine, theirs)]
    if kinds[0] != kinds[1]:
        raise refusal("tuning", kinds[0], kinds[1], run)
    for key in theirs["tuning"]:
        if key not in TUNING_FREE and mine["tuning"].get(key) != theirs["tuning"][key]:
            raise refusal(f"tuning.{key}", mine["tuning"].get(key), theirs["tuning"][key], run)


def _same_model(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two names are of the same files."""
    try:
        keys = {text_model_of({**mine, "model": node["model"]}).key for node in (mine, theirs)}
    except CrossrecError:  # the other's is not on this machine
        return False
    return len(keys) == 1


def refusal(key: str, here: Any, there: Any, run: str) -> CrossrecError:
    """Sentence on an option that must be the same in both runs."""
    return CrossrecError(
        f"{key} is {here!r} here and was {there!r} in {run}, whose weights init.from hands over, so they would mean "
        f"nothing: set it to {there!r}, or init.from=null"
    )
