"""Runs side by side: what differs in their configs, their test metrics, and who of their users gained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, NamedTuple

from crossrec.config import target_name
from crossrec.errors import CrossrecError
from crossrec.runs.identity import PLACES, WITHOUT, beginning, filled, scientific, terms
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import domain_rows
from crossrec.studies.pairing import MACRO, paired_users
from crossrec.suggestions import nearest

if TYPE_CHECKING:
    import polars as pl

TIE = 1e-12
"""Users whose difference is no larger are ties."""


class Paired(NamedTuple):
    """Users of a run against those of the first run, in one domain.

    Attributes:
        label: of the run.
        domain: name, or ``macro``.
        wins: users with a higher value than in the first run; then equal and lower ones.
        difference: mean over users of (run - first), in the metric's unit.
        low: lower end of its 95% bootstrap interval.
        p: two-sided p of the permutation test over users.
        p_holm: corrected over all comparisons made.
    """

    label: str
    domain: str
    wins: int
    ties: int
    losses: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side, the first one being what the others are compared with.

    Attributes:
        runs: label (A, B, ...) -> run.
        words: label -> overrides of its command line in which the runs differ; defaults are filled in.
        config: config key -> value in each run, as text; only keys that differ.
        metric: of the users.
        test: (domain, metric) -> value in each run; domains that all have, ``macro`` where all have the same ones.
        paired: users of the other runs against the first.
        notes: sentences on what is compared.
    """

    runs: Mapping[str, RunFolder]
    words: Mapping[str, str]
    config: Mapping[str, tuple[str, ...]]
    metric: str
    test: Mapping[tuple[str, str], tuple[float | None, ...]]
    paired: tuple[Paired, ...]
    notes: tuple[str, ...]


def compare_runs(folders: Sequence[Path], metric: str | None = None) -> RunComparison:
    """Compare finished runs on the same data and split.

    Args:
        folders: two run folders or more; the others are compared with the first.
        metric: of the users' comparison; None for the first run's validation metric.

    Raises:
        CrossrecError: too few or too many runs, one that is unfinished or no run, different data, splits or protocols,
            no common domain, or no such metric.
    """
    runs = _opened(folders)
    first, *others = runs.values()
    for other in others:
        _comparable(first, other)
    tests = [domain_rows(run.metrics["test"]) for run in runs.values()]
    domains, notes = _domains(list(runs.values()), tests)
    metric = metric or str(first.metrics["monitor"])
    names = sorted({name for test in tests for domain in domains for name in test[domain]})
    if metric not in names:
        raise CrossrecError(f"no test metric {metric!r} in {first.id}{nearest(metric, names)}")
    if len({run.config["seed"] for run in runs.values()}) > 1:
        notes.append("Seeds differ, so differences are of seeds too.")
    return RunComparison(
        runs=runs,
        words=_words(runs),
        config=config_differences([run.config for run in runs.values()]),
        metric=metric,
        test={(d, name): tuple(t[d].get(name) for t in tests) for d in domains for name in names},
        paired=_paired(runs, domains, metric),
        notes=tuple(notes),
    )


def config_differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Dotted keys whose values differ -> the value in each config, ``-`` where there is none.

    Where things lie, in what portions they are computed and who is told is left out: paths, caches and loggers change
    no number. So is an item encoder's copy of the group ``tuning``.
    """
    known = [{k: v for k, v in {**c, "adaptation": terms(c)}.items() if k not in (*PLACES, "init")} for c in configs]
    flat = [dict(_leaves(filled(config))) for config in known]
    for config, leaves in zip(configs, flat):
        leaves |= dict(_leaves({"init": beginning(config) or {}}))
        if config.get("positive_rating") is None:  # as in the configs of older records
            leaves.pop("positive_rating", None)
    keys = dict.fromkeys(key for config in flat for key in config if ".tuning." not in key)
    rows = {key: tuple(config.get(key, "-") for config in flat) for key in keys}
    return {key: row for key, row in sorted(rows.items()) if len(set(row)) > 1}


def frame(made: RunComparison) -> pl.DataFrame:
    """Every test metric: a row for each run, domain and metric; the users' comparison where its metric is."""
    import polars as pl

    users = {(p.label, p.domain): p._asdict() for p in made.paired}
    rows = []
    for at, (label, run) in enumerate(made.runs.items()):
        for (domain, metric), values in made.test.items():
            value, base = values[at], values[0]
            row: dict[str, Any] = {"label": label, "run": run.id, "domain": domain, "metric": metric, "value": value}
            row["difference"] = None if at == 0 or value is None or base is None else value - base
            found = users.get((label, domain), {}) if metric == made.metric else {}
            row |= {key: found.get(key) for key in ("wins", "ties", "losses", "low", "high", "p", "p_holm")}
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _opened(folders: Sequence[Path]) -> dict[str, RunFolder]:
    if not 2 <= len(folders) <= len(ascii_uppercase):
        raise CrossrecError(f"compare takes 2 to {len(ascii_uppercase)} run folders, not {len(folders)}")
    runs = [RunFolder.existing(Path(folder)) for folder in folders]
    places = [run.path.resolve() for run in runs]
    for run, place in zip(runs, places):
        if places.count(place) > 1:
            raise CrossrecError(f"run {place.name} is given twice: name runs that differ")
        if not run.finished:
            state = run.status["state"]
            raise CrossrecError(
                f"run {place.name} is {state}, not finished: its `crossrec train` line again resumes it"
            )
    return {label: RunFolder(place) for label, place in zip(ascii_uppercase, places)}


def _comparable(first: RunFolder, other: RunFolder) -> None:
    prints = [run.fingerprint for run in (first, other)]
    if prints[0] != prints[1]:
        raise CrossrecError(
            f"{first.id} and {other.id} are on different data (corpora {prints[0][:12]} and {prints[1][:12]}): "
            "compare runs of the same data and filter"
        )
    # which other domains are split too does not change the rows of a domain that both evaluate
    splits = [{k: v for k, v in run.config["split"].items() if k != "evaluated"} for run in (first, other)]
    for key, values in config_differences([{"split": split} for split in splits]).items():
        raise CrossrecError(
            f"{first.id} and {other.id} are split differently ({key} is {' and '.join(values)}), so their test rows "
            "are not the same: compare runs of the same split"
        )


def _domains(
    runs: Sequence[RunFolder], tests: Sequence[Mapping[str, Mapping[str, float]]]
) -> tuple[list[str], list[str]]:
    """Domains to compare in, and a note on those that are left out."""
    sets = [[domain for domain in test if domain != MACRO] for test in tests]
    common = [domain for domain in sets[0] if all(domain in found for found in sets)]
    if not common:
        each = "; ".join(f"{run.id}: {', '.join(found)}" for run, found in zip(runs, sets))
        raise CrossrecError(f"the runs have no evaluated domain in common ({each})")
    left = sorted({domain for found in sets for domain in found} - set(common))
    notes = [f"Not all runs are evaluated in {', '.join(left)}: left out."] if left else []
    return common + ([MACRO] if len(common) > 1 and not left else []), notes


def _paired(runs: Mapping[str, RunFolder], domains: Sequence[str], metric: str) -> tuple[Paired, ...]:
    from crossrec.evaluation.significance import bootstrap_interval, holm, permutation_test

    (_, first), *others = runs.items()
    made = []
    for label, run in others:
        for domain in domains:
            values = paired_users({0: run.path}, {0: first.path}, domain, metric)["difference"].to_numpy()
            wins, losses = int((values > TIE).sum()), int((values < -TIE).sum())
            low, high = bootstrap_interval(values)
            p = permutation_test(values)
            ties = len(values) - wins - losses
            made.append(Paired(label, domain, wins, ties, losses, float(values.mean()), low, high, p, p))
    return tuple(row._replace(p_holm=p) for row, p in zip(made, holm([row.p for row in made])))


def _words(runs: Mapping[str, RunFolder]) -> dict[str, str]:
    """Overrides in which the runs differ; where a run has none for such a key, the default it took."""
    lines = {
        label: {w.partition("=")[0].lstrip("+~"): w for w in scientific(run.overrides)} for label, run in runs.items()
    }
    configs = {label: run.config for label, run in runs.items()}
    kept = []
    for key in dict.fromkeys(key for line in lines.values() for key in line):
        values = {json.dumps(_at(config, key), sort_keys=True, default=str) for config in configs.values()}
        words = {line.get(key) for line in lines.values()}
        if len(values) > 1 or (values == {"null"} and len(words) > 1):  # an experiment is no key of the config
            kept.append(key)
    made = {}
    for label, config in configs.items():
        words_of = [lines[label].get(key) or _default(config, key) for key in kept]
        made[label] = " ".join(word for word in words_of if word)
    return made


def _at(config: Mapping[str, Any], key: str) -> Any:
    """What a config has at a dotted key; None where it has none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _default(config: Mapping[str, Any], key: str) -> str:
    """``key=value`` of a config, by its short name where the value is a component; empty where there is none."""
    value = _at(config, key)
    if isinstance(value, Mapping):
        return f"{key}={target_name(value)}" if value.get("_target_") else ""
    return "" if value is None else f"{key}={value}"


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if key in WITHOUT:
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)
