"""Negative transfer: what training on several domains gave each domain's users, against the domain alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import domain_rows, selecting
from crossrec.studies.compare import TIE
from crossrec.studies.pairing import MACRO, pairs
from crossrec.studies.twins import (
    Candidate,
    Missing,
    Twin,
    by_budget,
    candidates,
    find_twin,
    judge,
    named,
    refusal,
    science_differences,
)
from crossrec.studies.user_groups import Group, groups, here_and_elsewhere, training_rows

if TYPE_CHECKING:
    import polars as pl

LEVEL = 0.05
"""Helped or hurt: p, corrected over the domains, is below it, and the 95% interval is on one side of zero."""


@dataclass(frozen=True)
class DomainTransfer:
    """Transfer into one domain.

    Attributes:
        domain: name.
        twins: seed -> run id of the twin.
        groups: all users first, then by activity and by overlap.
        by_seed: seed -> mean difference of that seed's users.
        p: two-sided p of the permutation test over users.
        p_holm: corrected over the domains of the report.
        helped: users with a higher value than in the twin.
        unchanged: users with an equal one.
        hurt: users with a lower one.
        differ: keys that the strategy sets itself and that differ in a twin -> value in the run and in the twin.
        budget: keys of the budget that differ in a twin that was named -> both values.
    """

    domain: str
    twins: Mapping[int, str]
    groups: tuple[Group, ...]
    by_seed: Mapping[int, float]
    p: float
    p_holm: float
    helped: int
    unchanged: int
    hurt: int
    differ: Mapping[str, tuple[str, ...]]
    budget: Mapping[str, tuple[str, ...]]

    @property
    def verdict(self) -> str:
        """``helped``, ``hurt`` or ``no difference``, see :data:`LEVEL`."""
        low, high = self.groups[0].low, self.groups[0].high
        if low is None or high is None or self.p_holm >= LEVEL or low <= 0 <= high:
            return "no difference"
        return "helped" if low > 0 else "hurt"


@dataclass(frozen=True)
class Transfer:
    """The report.

    Attributes:
        runs: seed -> run.
        metric: of the users.
        domains: those with a twin.
        missing: twins that there are not.
        selected: the domains whose validation selected the runs' epochs, by its mean over them.
        nameable: runs to name as twins, which are all found ones and others that differ in their budget alone; empty
            where there are no others.
    """

    runs: Mapping[int, RunFolder]
    metric: str
    domains: tuple[DomainTransfer, ...]
    missing: tuple[Missing, ...]
    selected: tuple[str, ...]
    nameable: tuple[RunFolder, ...] = ()


def transfer(folders: Sequence[Path], against: Sequence[Path] = (), metric: str | None = None) -> Transfer:
    """Compare runs with their ``target_only`` twins, in every domain they are evaluated in.

    Args:
        folders: runs of one config that differ in the seed alone.
        against: runs to find the twins among; without any, those beside the first run.
        metric: of single users, such as ``recall@10``; None for the one that selected the epoch.

    Raises:
        CrossrecError: a run is not finished, trains on no more than one domain, or is of another config; a named run
            is the twin of none; or there is no such metric.
    """
    runs = _seeds(folders)
    first = next(iter(runs.values()))
    rows = {seed: training_rows(run) for seed, run in runs.items()}
    metric = metric or str(first.metrics["monitor"])
    beside = (p.parent for run in runs.values() for p in run.path.parent.glob("*/config.yaml"))
    among = named(against) if against else candidates(dict.fromkeys(beside))
    evaluated = [d for d in domain_rows(first.metrics["test"]) if d != MACRO]
    found: dict[str, dict[int, Twin]] = {}
    missing: list[Missing] = []
    for domain in evaluated:
        for seed, run in runs.items():
            twin = find_twin(run, domain, among, given=bool(against))
            if isinstance(twin, Missing):
                missing.append(twin)
            else:
                found.setdefault(domain, {})[seed] = twin
    if against:
        _all_used(runs, among, {twin.run.path for twins in found.values() for twin in twins.values()}, evaluated)
    made = [_domain(domain, runs, twins, metric, rows) for domain, twins in found.items()]
    others = [m.other for m in missing if m.other is not None]
    nameable = [twin.run for twins in found.values() for twin in twins.values()] + others if others else []
    return Transfer(runs, metric, _corrected(made), tuple(missing), selecting(first), tuple(nameable))


def _domain(
    domain: str,
    runs: Mapping[int, RunFolder],
    twins: Mapping[int, Twin],
    metric: str,
    rows: Mapping[int, pl.DataFrame],
) -> DomainTransfer:
    import polars as pl

    from crossrec.evaluation.significance import permutation_test

    made = pairs({s: runs[s].path for s in twins}, {s: twin.run.path for s, twin in twins.items()}, domain, metric)
    counted = pl.concat(
        here_and_elsewhere(
            pl.read_parquet(runs[s].path / "per_user" / f"{domain}.parquet", columns=["name"]), rows[s], domain
        )
        for s in twins
    )
    counted = counted.group_by("name").agg(pl.col("here", "elsewhere").mean())
    users = made.users.join(counted, on="name").sort("name")  # the bootstrap draws by place
    values = users["difference"].to_numpy()
    helped, hurt = int((values > TIE).sum()), int((values < -TIE).sum())
    p = permutation_test(values)
    return DomainTransfer(
        domain=domain,
        twins={seed: twin.run.id for seed, twin in twins.items()},
        groups=groups(users),
        by_seed=made.by_seed,
        p=p,
        p_holm=p,
        helped=helped,
        unchanged=len(values) - helped - hurt,
        hurt=hurt,
        differ={key: values for twin in twins.values() for key, values in twin.differ.items()},
        budget={key: values for twin in twins.values() for key, values in twin.budget.items()},
    )


def _corrected(made: Iterable[DomainTransfer]) -> tuple[DomainTransfer, ...]:
    from crossrec.evaluation.significance import holm

    made = list(made)
    return tuple(replace(d, p_holm=p) for d, p in zip(made, holm([d.p for d in made])))


def _seeds(folders: Sequence[Path]) -> dict[int, RunFolder]:
    """Finished, trained runs of one config, by seed."""
    runs: dict[int, RunFolder] = {}
    for folder in folders:
        run = RunFolder.existing(Path(folder).resolve())
        if not run.finished:
            raise CrossrecError(
                f"run {run.id} is {run.state}, not finished: its `crossrec train` line again resumes it"
            )
        if run.metrics.get("best_epoch") is None:
            name = run.config["strategy"]["_target_"].rpartition(".")[2]
            raise CrossrecError(f"run {run.id} has nothing to transfer ({name} does not train): give another run")
        seed = int(run.config["seed"])
        if seed in runs:
            raise CrossrecError(f"{runs[seed].id} and {run.id} have the same seed {seed}: give a run for each seed")
        runs[seed] = run
    first, *others = runs.values()
    for other in others:
        _same_but_seed(first, other)
    return runs


def _same_but_seed(first: RunFolder, other: RunFolder) -> None:
    a, b = first.config, other.config
    seeds = (str(a["seed"]), str(b["seed"]))
    differ = {key: v for key, v in science_differences(a, b).items() if not (key.endswith("seed") and v == seeds)}
    if first.fingerprint != other.fingerprint:
        differ["data"] = (first.fingerprint[:12], other.fingerprint[:12])
    for key, values in differ.items():
        raise CrossrecError(
            f"{other.id} is not {first.id} with another seed ({key} is {values[1]}, not {values[0]}): give runs that "
            "differ in the seed alone, and report others apart"
        )


def _all_used(
    runs: Mapping[int, RunFolder], among: Sequence[Candidate], used: set[Path], domains: Sequence[str]
) -> None:
    """Refuse a named run that is nobody's twin, and say what differs."""
    for candidate in among:
        if candidate.run.path in used:
            continue
        target = str(candidate.config["target"])
        seed = candidate.config["seed"]
        run = runs.get(seed, next(iter(runs.values())))
        if target not in domains:
            raise CrossrecError(
                f"--against {candidate.run.id} has target={target}, but {run.id} is evaluated in {', '.join(domains)}"
            )
        _, refused = by_budget(judge(run, run.config, candidate, target)[1])
        if refused:
            raise CrossrecError(f"--against {refusal(candidate, refused)}")
        raise CrossrecError(f"--against {candidate.run.id} is a second twin of {run.id} in {target}: name one of them")
