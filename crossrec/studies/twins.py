"""The ``target_only`` run that a transfer is measured against: which it is, and how it is made where it is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crossrec.config import option_files, sets
from crossrec.errors import CrossrecError
from crossrec.runs.identity import MACHINE, SCIENCE
from crossrec.runs.store import RunFolder
from crossrec.studies.compare import config_differences

TWIN = "crossrec.strategies.target_only.TargetOnly"

NEAR = 3
"""A run that differs in no more keys than this is named as nearly a twin."""

BUDGET = ("trainer.max_epochs", "trainer.max_steps", "scheduler.T_max", "optimizer.lr", "batch_size")
"""Keys of what a run may spend, which are tuned for each strategy; so is the patience of any callback.

``scheduler=cosine`` decays over ``trainer.max_epochs``.
"""

OWN = ("strategy", "adaptation", "target")
"""Config groups that tell a run from its twin."""


Differences = Mapping[str, tuple[str, ...]]
"""Dotted key -> its value in a run and in what may be its twin."""


class Candidate(NamedTuple):
    """A ``target_only`` run and its config."""

    run: RunFolder
    config: Mapping[str, Any]


class Twin(NamedTuple):
    """The twin of a run in one domain.

    Attributes:
        run: of ``target_only``.
        differ: keys that the run's strategy sets itself -> value in the run and in the twin.
        budget: keys of the budget, of a twin that is named -> both values.
    """

    run: RunFolder
    differ: Differences
    budget: Differences


class Missing(NamedTuple):
    """A domain whose twin there is not.

    Attributes:
        domain: name.
        run: whose twin is missing.
        line: command line that trains it.
        near: sentence on a run that is nearly the twin; empty without one.
        other: the run that would be the twin if it were named: it differs in its budget alone. None without one.
    """

    domain: str
    run: RunFolder
    line: str
    near: str
    other: RunFolder | None = None


def science_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Dotted keys that count in a run id and differ between two configs -> both values; data are told apart elsewhere.

    >>> science_differences({"seed": 0, "dim": 8, "logger": "csv"}, {"seed": 0, "dim": 16, "logger": "wandb"})
    {'dim': ('8', '16')}
    """
    kept = []
    for config in (a, b):
        made = {key: config[key] for key in (*SCIENCE, "init") if key in config}
        made["trainer"] = {k: v for k, v in config.get("trainer", {}).items() if k not in MACHINE}
        kept.append(made)
    # texts of one batch of a text model do not count, as in the run id
    found = config_differences(kept)
    return {k: v for k, v in found.items() if not (k.startswith("item_encoder.") and k.endswith(".batch_size"))}


def candidates(folders: Iterable[Path]) -> list[Candidate]:
    """Runs of ``target_only`` among ``folders``, finished or not."""
    made = []
    for folder in folders:
        run = RunFolder(folder)
        # reading YAML is slow: most runs are told by their text
        if run.config_path.is_file() and TWIN in run.config_path.read_text():
            config = run.config
            if config["strategy"]["_target_"] == TWIN and (run.path / "corpus.json").is_file():
                made.append(Candidate(run, config))
    return made


def named(folders: Sequence[Path]) -> list[Candidate]:
    """Read runs that somebody names as twins.

    Raises:
        CrossrecError: one is no run of ``target_only``, or not finished.
    """
    for folder in folders:
        run = RunFolder.existing(folder)
        if not candidates([folder]):
            target = run.config["strategy"]["_target_"]
            raise CrossrecError(f"--against {run.id} is a run of {target}: name runs of strategy=target_only")
        if not run.finished:
            raise CrossrecError(f"--against {run.id} is {run.state}: its `crossrec train` line again finishes it")
    return candidates(folders)


def find_twin(run: RunFolder, domain: str, among: Sequence[Candidate], *, given: bool = False) -> Twin | Missing:
    """Find the twin of a run in a domain.

    It is a finished run on the same data with ``strategy=target_only``, no adaptation and ``target=domain``, whose
    config is otherwise the run's in all that counts in a run id. Two kinds of keys may differ: those that the yaml of
    the run's strategy sets itself, and ``split.evaluated`` where both split the domain. ``sampler.ratios`` name the
    domains that train, so a run with them may have a twin with another sampler. The keys of its budget may differ where
    it is given by name. Of several twins the one that differs least is taken, of those the one that sorts first.

    Args:
        run: of a strategy that trains on several domains.
        domain: name of an evaluated domain.
        among: runs of ``target_only``.
        given: they were given by name.
    """
    config = run.config
    twins: list[tuple[int, str, Twin]] = []
    others: list[tuple[int, str, Twin]] = []
    near: list[tuple[int, str, str]] = []
    for candidate in among:
        if str(candidate.config["target"]) != domain:
            continue
        allowed, refused = judge(run, config, candidate, domain)
        budget, rest = by_budget(refused)
        if not rest and candidate.run.finished:
            fits = twins if given or not budget else others
            fits.append((len(allowed) + len(budget), candidate.run.id, Twin(candidate.run, allowed, budget)))
        elif len(refused) <= NEAR:
            near.append((len(refused), candidate.run.id, refusal(candidate, refused)))
    if twins:
        return min(twins, key=lambda twin: twin[:2])[2]
    line = twin_line(run, config, domain)
    if others:
        other = min(others, key=lambda twin: twin[:2])[2]
        said = f"{other.run.id} differs in its budget alone: {told(other.budget)}"
        return Missing(domain, run, line, said, other.run)
    return Missing(domain, run, line, min(near)[2] if near else "")


def judge(
    run: RunFolder, config: Mapping[str, Any], candidate: Candidate, domain: str
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Keys of a candidate that differ from the run's as a twin's may, and those that may not -> both values."""
    own = set_by_strategy(config, run.config_dirs)[0]
    allowed: dict[str, tuple[str, ...]] = {}
    refused: dict[str, tuple[str, ...]] = {}
    for key, values in science_differences(config, candidate.config).items():
        group = key.partition(".")[0]
        if group in OWN:
            continue
        if key == "split.evaluated" and all(_splits(c, domain) for c in (config, candidate.config)):
            continue
        free = key in own or (group == "sampler" and bool(config["sampler"].get("ratios")))
        (allowed if free else refused)[key] = values
    prints = tuple(r.fingerprint[:12] for r in (run, candidate.run))
    if prints[0] != prints[1]:
        refused["data"] = prints
    return allowed, refused


def by_budget(refused: Differences) -> tuple[Differences, Differences]:
    """Tell the keys that are of a run's budget from the others."""
    of = {k for k in refused if k in BUDGET or (k.startswith("callbacks.") and k.endswith(".patience"))}
    return {k: v for k, v in refused.items() if k in of}, {k: v for k, v in refused.items() if k not in of}


def told(differ: Differences) -> str:
    """Keys that differ, and the value of each in the twin and in the run."""
    return "; ".join(f"{key} is {b} in it, {a} in the run" for key, (a, b) in differ.items())


def refusal(candidate: Candidate, refused: Differences) -> str:
    """Sentence on why a run is no twin."""
    if not refused:
        return f"{candidate.run.id} would be the twin, but is {candidate.run.state}, not finished"
    return f"{candidate.run.id} is not the twin: {told(refused)}"


def set_by_strategy(config: Mapping[str, Any], config_dirs: Sequence[Path] = ()) -> tuple[set[str], dict[str, str]]:
    """What the yaml of a config's strategy sets outside of the strategy itself: dotted keys, and group -> option."""
    for _, path in option_files("strategy", config_dirs).values():
        node, chosen = sets(path)
        if node.get("strategy", {}).get("_target_") == config["strategy"]["_target_"]:
            body = {key: value for key, value in node.items() if key not in OWN}
            return set(_keys(body)), {group: option for group, option in chosen.items() if group not in OWN}
    return set(), {}


def twin_line(run: RunFolder, config: Mapping[str, Any], domain: str) -> str:
    """Command line of the twin: the run's own words, with those of its strategy replaced."""
    dropped = [*OWN, "sampler"] if config["sampler"].get("ratios") else list(OWN)
    words = []
    made_of = set_by_strategy(config, run.config_dirs)[1]
    for word in run.overrides:
        key = word.partition("=")[0].lstrip("+~").partition("@")[0]
        if key.partition(".")[0] not in dropped:
            words.append(word)
    keys = [word.partition("=")[0] for word in words]
    words += [f"{group}={option}" for group, option in made_of.items() if group not in keys]
    words += ["sampler=proportional"] if "sampler" in dropped else []
    words += ["strategy=target_only", "adaptation=[]", f"target={domain}"]
    return run.line(words)


def _splits(config: Mapping[str, Any], domain: str) -> bool:
    names = config["split"].get("evaluated")
    return names is None or domain in names


def _keys(node: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
