"""What of a study can be told wrong before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.evaluation.monitor import check_monitor, cutoffs, label_names, validation_names
from crossrec.studies.search_space import examples
from crossrec.studies.study import Row, Study
from crossrec.suggestions import nearest


def check_metrics(study: Study, config: Mapping[str, Any]) -> None:
    """Check that a run computes every metric of its study's columns, and the one that selects its epoch.

    Args:
        study: the study.
        config: of a run, resolved.

    Raises:
        CrossrecError: it does not compute one; the message names the nearest.
    """
    from crossrec.evaluation.summary import COUNT

    evaluation = config["evaluation"]
    names = metric_names(evaluation) if study.stage == "test" else [*validation_names(evaluation), COUNT]
    known = [*names, *label_names(config)]
    of = "" if study.stage == "test" else " on validation"
    for metric in study.metrics:
        if metric not in known:
            raise CrossrecError(
                f"metrics: {metric!r} is not computed{of} with evaluation.ks={evaluation['ks']}{nearest(metric, known)}"
            )
    check_monitor(config)


def metric_names(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the test metrics of a domain under an ``evaluation`` config; groups are left out."""
    from crossrec.evaluation.summary import COUNT

    ks = cutoffs(evaluation)
    made = [*validation_names(evaluation), *(f"{name}@{k}" for name in ("novelty", "coverage", "gini") for k in ks)]
    made += [f"diversity@{k}" for k in ks if k > 1] if evaluation["diversity"] else []
    return [*made, COUNT]


def check_domains(study: Study, found: Mapping[str, Sequence[str] | None]) -> None:
    """Check that the domains of a study's columns and published values are in its data.

    Args:
        study: the study.
        found: data set -> names of the domains of its corpora; None where they are not known yet.

    Raises:
        CrossrecError: one is in none of them; the message names the nearest.
    """
    if any(names is None for names in found.values()):
        return
    every = sorted({name for names in found.values() for name in names or ()} | {"macro"})
    for domain in study.domains or ():
        if domain not in every:
            raise CrossrecError(f"{study.path}: domains: the data have no domain {domain!r}{nearest(domain, every)}")
    for row, data, domain, _ in study.published:
        known = [*(found.get(data) or ()), "macro"]
        if domain not in known:
            of = f" of {data}" if data else ""
            raise CrossrecError(
                f"{study.path}: published: a value of row {row!r} is of the domain {domain!r}, which the data{of} have "
                f"not{nearest(domain, known)}"
            )


def tried(study: Study, row: Row, words: Sequence[str], compose: Callable[[Sequence[str]], Any]) -> None:
    """Compose a row with every choice of its search space.

    Args:
        study: the study.
        row: whose space it is.
        words: of the row's run without the space.
        compose: of a command line's words; it raises what is wrong with them.

    Raises:
        CrossrecError: a searched key or choice does not compose; the message names them.
    """
    for values in examples(row.search) if row.search else ():
        try:
            compose((*words, *values))
        except CrossrecError as error:
            where = f"{study.path}: rows.{row.name}.search, tried with {' '.join(values)}"
            raise CrossrecError(f"{where}: {error}") from error
