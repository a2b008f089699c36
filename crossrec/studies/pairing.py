"""Two rows of a table, user by user: what each gave the same user, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from crossrec.errors import CrossrecError
from crossrec.runs.reading import broken, read_json
from crossrec.studies.reader import TESTS
from crossrec.studies.table import Comparison
from crossrec.suggestions import nearest

if TYPE_CHECKING:
    import polars as pl

MACRO = "macro"
ABOUT = ("user", "name", "n_relevant", "n_seen", "cold")
"""Columns of a per-user file that are no metrics."""


class Pairs(NamedTuple):
    """Users of two rows.

    Attributes:
        users: ``name, a, b, difference`` (a - b), a row for each user, sorted by name; averaged over seeds.
        by_seed: seed -> mean of the differences of that seed's users.
    """

    users: pl.DataFrame
    by_seed: dict[int, float]


def per_user_metrics(run: Path, domain: str) -> list[str]:
    """Metrics that a run keeps for every user of ``domain``; coverage, Gini and those of labels are not among them.

    Raises:
        CrossrecError: the run has no such file.
    """
    import polars as pl

    return [name for name in pl.read_parquet_schema(_file(run, domain)) if name not in ABOUT]


def of_all_lists(metric: str) -> bool:
    """Whether a metric is of all lists or labelled pairs together, and not the mean of one of single users."""
    return metric.startswith("label_") or metric.partition("@")[0] in ("coverage", "gini")


def paired_users(runs_a: Mapping[int, Path], runs_b: Mapping[int, Path], domain: str, metric: str) -> pl.DataFrame:
    """Pair two rows of runs by user and seed.

    For each seed that both have, the runs' users are joined by name; a user's values are then averaged over the seeds
    in which both runs have that user.

    ``macro`` pairs the users of all domains. With D domains of n_d users and n users in all, a user's value is the sum
    of n x_d / (D n_d) over the user's domains d, so that the mean over users is the mean over domains of their means.

    Args:
        runs_a: seed -> run folder.
        runs_b: seed -> run folder of what is compared with.
        domain: name of an evaluated domain, or ``macro``.
        metric: such as ``ndcg@10``; one of :func:`per_user_metrics`.

    Returns:
        ``name, a, b, difference`` (a - b), a row for each user, sorted by name.

    Raises:
        CrossrecError: no common seed, user, per-user file or metric; a value that is not finite; or runs that were not
            evaluated on the same: protocols, candidates or users' test items differ.
    """
    return pairs(runs_a, runs_b, domain, metric).users


def compare_cells(
    runs_a: Mapping[int, Path],
    runs_b: Mapping[int, Path],
    domain: str,
    metric: str,
    baseline: str,
    test: str = "permutation",
) -> Comparison:
    """Compare a cell's runs with those of the baseline row.

    ``p_adjusted`` is ``p_users``; who makes a table corrects it over all comparisons. ``p_seeds`` is the same test on
    the seeds' mean differences, so its least value is .5 with two seeds, .25 with three and .0625 with five: below six
    seeds no effect can reach .05.

    Args:
        runs_a: seed -> run folder.
        runs_b: seed -> run folder of the baseline.
        domain: name of an evaluated domain, or ``macro``.
        metric: one of :func:`per_user_metrics`.
        baseline: name of the baseline row.
        test: ``permutation`` or ``wilcoxon``.

    Raises:
        CrossrecError: an unknown ``test``, or as :func:`paired_users`.
    """
    from crossrec.evaluation.significance import bootstrap_interval, permutation_test, wilcoxon_test

    tests = {"permutation": permutation_test, "wilcoxon": wilcoxon_test}
    if test not in tests:
        raise CrossrecError(f"no test {test!r}{nearest(test, TESTS)}")
    made = pairs(runs_a, runs_b, domain, metric)
    differences = made.users["difference"].to_numpy()
    low, high = bootstrap_interval(differences)
    base = float(made.users["b"].to_numpy().mean())
    p = tests[test](differences)
    seeds = list(made.by_seed.values())
    return Comparison(
        baseline=baseline,
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_users=p,
        p_adjusted=p,
        p_seeds=tests[test](seeds) if len(seeds) > 1 else None,
        n_users=len(differences),
        n_seeds=len(seeds),
        relative=(low / base, high / base) if base > 0 else None,
    )


def pairs(runs_a: Mapping[int, Path], runs_b: Mapping[int, Path], domain: str, metric: str) -> Pairs:
    """Pair two rows as :func:`paired_users`, with the mean difference of each seed."""
    import polars as pl

    seeds = sorted(set(runs_a) & set(runs_b))
    if not seeds:
        raise CrossrecError(
            f"no common seed to compare: seeds {sorted(runs_a)} against {sorted(runs_b)}; run both with the same seeds"
        )
    couples = {seed: (Path(runs_a[seed]), Path(runs_b[seed])) for seed in seeds}
    domains = _domains(*couples[seeds[0]]) if domain == MACRO else [domain]
    if domain == MACRO:
        for a, b in couples.values():
            if _domains(a, b) != domains:
                raise CrossrecError(f"{a.name} has not the domains of the other seeds ({', '.join(domains)})")
    parts = [(seed, d, _joined(*couples[seed], d, metric)) for seed in seeds for d in domains]
    rows = pl.concat(
        f.with_columns(pl.lit(seed, pl.Int64).alias("seed"), pl.lit(d).alias("domain")) for seed, d, f in parts
    )
    by_seed = rows.group_by("seed", "domain").agg(pl.col("difference").mean())
    by_seed = by_seed.group_by("seed").agg(pl.col("difference").mean()).sort("seed")
    values = ("a", "b", "difference")
    users = rows.group_by("name", "domain").agg(pl.col(*values).mean())
    if domain == MACRO:
        share = users["name"].n_unique() / (len(domains) * pl.len().over("domain"))
        users = users.with_columns(pl.col(*values) * share).group_by("name").agg(pl.col(*values).sum())
    return Pairs(users.select("name", *values).sort("name"), dict(by_seed.iter_rows()))


def _domains(a: Path, b: Path) -> list[str]:
    """Domains with test users, which both runs must have alike."""
    import polars as pl

    found = []
    for run in (a, b):
        files = [_file(run, f.stem) for f in sorted((run / "per_user").glob("*.parquet"))]
        found.append([f.stem for f in files if pl.scan_parquet(f).select(pl.len()).collect().item()])
    if found[0] != found[1] or not found[0]:
        raise CrossrecError(
            f"macro over different domains: {a.name} has users of {', '.join(found[0]) or 'none'}, "
            f"{b.name} of {', '.join(found[1]) or 'none'}; compare a domain that both have"
        )
    return found[0]


def _file(run: Path, domain: str) -> Path:
    import polars as pl

    file = run / "per_user" / f"{domain}.parquet"
    if not file.is_file():
        known = sorted(f.stem for f in file.parent.glob("*.parquet"))
        raise CrossrecError(f"{run} has no per-user metrics of domain {domain!r}{nearest(domain, known)}")
    try:
        pl.read_parquet_schema(file)  # the end of the file, which a broken one lacks
    except pl.exceptions.PolarsError as error:
        raise broken(file, error) from None
    return file


def _joined(a: Path, b: Path, domain: str, metric: str) -> pl.DataFrame:
    """Pair two runs: ``name, a, b, difference`` of the users both have."""
    import polars as pl

    _same_protocol(a, b, domain)
    frame = _values(a, domain, metric, "a").join(_values(b, domain, metric, "b"), on="name", validate="1:1")
    if not frame.height:
        raise CrossrecError(
            f"{a.name} and {b.name} have no user of domain {domain!r} in common; are the data the same?"
        )
    other = frame.filter((pl.col("n_relevant") != pl.col("n_relevant_b")) | (pl.col("n_seen") != pl.col("n_seen_b")))
    if other.height:
        row = other.row(0, named=True)
        raise CrossrecError(
            f"{a.name} and {b.name} were not tested on the same rows of {domain!r}: user {row['name']!r} has "
            f"{row['n_relevant']} test items after {row['n_seen']} seen ones in the first, {row['n_relevant_b']} after "
            f"{row['n_seen_b']} in the second; compare runs of the same split"
        )
    return frame.select("name", "a", "b", (pl.col("a") - pl.col("b")).alias("difference"))


def _values(run: Path, domain: str, metric: str, name: str) -> pl.DataFrame:
    import polars as pl

    file, known = _file(run, domain), per_user_metrics(run, domain)
    if of_all_lists(metric):
        raise CrossrecError(f"{metric} is of all lists together, so it cannot pair users; choose another metric")
    if metric not in known:
        raise CrossrecError(f"{file} has no metric {metric!r} of single users{nearest(metric, known)}")
    frame = pl.read_parquet(file, columns=["name", "n_relevant", "n_seen", metric]).rename({metric: name})
    wrong = frame.filter(~pl.col(name).is_finite().fill_null(False))
    if wrong.height:
        user, value = wrong.select("name", name).row(0)
        raise CrossrecError(f"{file}: {metric} of user {user!r} is {value}; choose a metric that every user has")
    return frame if name == "a" else frame.rename({"n_relevant": "n_relevant_b", "n_seen": "n_seen_b"})


def _same_protocol(a: Path, b: Path, domain: str) -> None:
    first, second = _record(a), _record(b)
    if first.get("protocol") != second.get("protocol"):
        raise CrossrecError(
            f"{a.name} was evaluated under protocol {first.get('protocol')}, {b.name} under {second.get('protocol')}: "
            "compare runs of the same evaluation"
        )
    if first.get("candidates") != second.get("candidates"):
        from crossrec.evaluation.protocols import domain_hashes

        # the hash is of all domains of a run; runs of other targets may still share this domain's candidates
        left, right = (domain_hashes(run).get(domain) for run in (a, b))
        if left is None or left != right:
            raise CrossrecError(
                f"{a.name} and {b.name} were ranked against different candidates of {domain!r}: they are drawn from "
                "the seed, so compare runs of the same seed and evaluation"
            )


def _record(run: Path) -> dict[str, Any]:
    file = run / "metrics.json"
    if not file.is_file():
        raise CrossrecError(f"{run} is not a finished run (it has no metrics.json)")
    return cast(dict[str, Any], read_json(file))
