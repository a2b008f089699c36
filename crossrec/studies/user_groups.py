"""Users in groups: what a run gave those who did little or much, in the domain or in others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder

if TYPE_CHECKING:
    import polars as pl

    from crossrec.data.schema import Corpus

PARTS = {"activity": 4, "overlap": 2}
"""Buckets of users, at most: by training rows in the domain; by those in other domains, where there are any."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """What transfer gave a group of users.

    Attributes:
        by: ``all``, ``activity`` (training rows in the domain) or ``overlap`` (in other training domains).
        least: fewest such rows of its users, averaged over seeds; None of ``all``.
        most: most of them.
        users: how many.
        twin: mean of the metric in the twins.
        run: mean in the runs.
        gain: mean of the differences (run - twin).
        low: lower end of the gain's 95% bootstrap interval; None below two users.
        high: upper end.
    """

    by: str
    least: float | None
    most: float | None
    users: int
    twin: float
    run: float
    gain: float
    low: float | None
    high: float | None

    @property
    def relative(self) -> float | None:
        """Gain as a share of the twin's mean; None where that is zero."""
        return self.gain / self.twin if self.twin else None


def training_rows(run: RunFolder) -> pl.DataFrame:
    """Count the training rows that a run read: ``name, domain, rows``, for each user and domain with any.

    A domain that was tested and did not train is read in histories. The corpus is the recorded one, the split is made
    again, and no model is built.

    Raises:
        CrossrecError: the run trained on one domain alone, or its corpus or its strategy's code is gone.
    """
    import polars as pl

    from crossrec.config import build
    from crossrec.data.splits import TRAIN
    from crossrec.runs.corpus import recorded_corpus

    corpus = recorded_corpus(run)
    read = read_domains(run, corpus)
    if len(read) < 2:
        raise CrossrecError(
            f"run {run.id} trains on {read[0]!r} alone, so nothing is transferred: give a run of a strategy that "
            "trains on several domains, such as merged or mmd"
        )
    names = pl.DataFrame({"domain": [d.name for d in corpus.domains], "index": range(len(corpus.domains))})
    label = build(run.config["split"])(corpus).label
    rows = corpus.interactions.select(
        "user", pl.Series("index", corpus.item_domain[corpus.interactions["item"].to_numpy()])
    ).filter(pl.Series(label == TRAIN))
    counts = rows.group_by("user", "index").agg(pl.len().cast(pl.Int64).alias("rows"))
    counts = counts.join(names, on="index").filter(pl.col("domain").is_in(read))
    return counts.join(corpus.users, on="user").select("name", "domain", "rows").sort("name", "domain")


def read_domains(run: RunFolder, corpus: Corpus) -> list[str]:
    """Names of the domains that a run trained on or was tested in: all whose training rows it reads.

    Raises:
        CrossrecError: its strategy's code is gone.
    """
    from crossrec.runs.assemble import strategy_of, target_index, trained_domains

    config = run.config
    tested = strategy_of(config).test_domains(corpus.domains, target_index(config, corpus))
    return list(dict.fromkeys([*trained_domains(config, corpus), *tested]))


def here_and_elsewhere(users: pl.DataFrame, rows: pl.DataFrame, domain: str) -> pl.DataFrame:
    """Give users (``name``) their training rows in a domain, ``here``, and in all others, ``elsewhere``.

    Args:
        users: a row for each user.
        rows: of :func:`training_rows`.
        domain: name.
    """
    import polars as pl

    inside = pl.col("domain") == domain
    count = pl.col("rows")
    sums = rows.group_by("name").agg(here=count.filter(inside).sum(), elsewhere=count.filter(~inside).sum())
    return users.join(sums, on="name", how="left", maintain_order="left").with_columns(
        pl.col("here", "elsewhere").fill_null(0)
    )


def groups(users: pl.DataFrame) -> tuple[Group, ...]:
    """All users, then buckets of them by activity (``here``) and by overlap (``elsewhere``).

    Args:
        users: ``a`` (run), ``b`` (twin), ``difference``, ``here`` and ``elsewhere``, a row for each user.
    """
    columns = [users[name].to_numpy().astype(np.float64) for name in ("a", "b", "difference", "here", "elsewhere")]
    values, here, elsewhere = columns[:3], columns[3], columns[4]
    made = [_group("all", values, np.ones(len(here), dtype=np.bool_), None)]
    made += [_group("activity", values, members, here) for members in buckets(here, PARTS["activity"])]
    some = np.flatnonzero(elsewhere > 0)
    if len(some) < len(elsewhere):
        made.append(_group("overlap", values, elsewhere == 0, elsewhere))
    for part in buckets(elsewhere[some], PARTS["overlap"]):
        members = np.zeros(len(elsewhere), dtype=np.bool_)
        members[some[part]] = True
        made.append(_group("overlap", values, members, elsewhere))
    return tuple(made)


def buckets(values: Floats, parts: int) -> list[npt.NDArray[np.bool_]]:
    """Cut ``values`` (n,) at their quantiles; equal values stay together, so there may be fewer than ``parts`` buckets.

    Bucket i has the values over the quantile (i - 1) / parts and up to i / parts, quantiles being values themselves.

    Returns:
        (n,) members of each bucket, lowest first; none is empty.

    >>> [m.tolist() for m in buckets(np.array([1.0, 1.0, 1.0, 5.0]), 2)]
    [[True, True, True, False], [False, False, False, True]]
    """
    if not len(values):
        return []
    edges = np.unique(np.quantile(values, np.arange(1, parts + 1) / parts, method="inverted_cdf"))
    at = np.searchsorted(edges, values)
    return [at == i for i in range(len(edges))]


def _group(by: str, values: Sequence[Floats], members: npt.NDArray[np.bool_], rows: Floats | None) -> Group:
    from crossrec.evaluation.significance import bootstrap_interval

    run, twin, differences = (v[members] for v in values)
    low, high = bootstrap_interval(differences) if len(differences) > 1 else (None, None)
    return Group(
        by=by,
        least=None if rows is None else float(rows[members].min()),
        most=None if rows is None else float(rows[members].max()),
        users=len(differences),
        twin=float(twin.mean()),
        run=float(run.mean()),
        gain=float(differences.mean()),
        low=low,
        high=high,
    )
