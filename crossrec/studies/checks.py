"""What of a study can be told wrong before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossrec.errors import CrossrecError
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
    evaluation = config["evaluation"]
    known = [*metric_names(evaluation), *_label_names(config)]
    for metric in study.metrics:
        if metric not in known:
            raise CrossrecError(
                f"metrics: {metric!r} is not computed with evaluation.ks={evaluation['ks']}{nearest(metric, known)}"
            )
    check_monitor(evaluation)


def check_monitor(evaluation: Mapping[str, Any]) -> None:
    """Check that validation computes ``evaluation.monitor``.

    Raises:
        CrossrecError: it does not; the message names the nearest.
    """
    from crossrec.evaluation.collector import GROUPS
    from crossrec.evaluation.labels import METRICS

    monitor = str(evaluation["monitor"])
    group, _, metric = monitor.rpartition("/")
    if group not in GROUPS:
        raise CrossrecError(
            f"evaluation.monitor={monitor}: no group {group!r}{nearest(group, [g for g in GROUPS if g])}"
        )
    known = [*validation_names(evaluation), *([] if group else METRICS)]  # those of labels where rows have some
    if metric not in known:
        raise CrossrecError(
            f"evaluation.monitor={monitor} is not computed in validation with evaluation.ks={evaluation['ks']}"
            f"{nearest(metric, known)}"
        )


def metric_names(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the test metrics of a domain under an ``evaluation`` config; groups are left out."""
    from crossrec.evaluation.summary import COUNT

    ks = _cutoffs(evaluation)
    made = [*validation_names(evaluation), *(f"{name}@{k}" for name in ("novelty", "coverage", "gini") for k in ks)]
    made += [f"diversity@{k}" for k in ks if k > 1] if evaluation["diversity"] else []
    return [*made, COUNT]


def validation_names(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the validation metrics of a domain, which can select an epoch; groups are left out."""
    from crossrec.evaluation.metrics import names

    return names(_cutoffs(evaluation))


def _label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the metrics of labelled pairs, where a run has such."""
    from crossrec.evaluation.labels import METRICS

    labelled = config.get("positive_rating") is not None or config["evaluation"]["protocol"] == "sampled"
    return METRICS if labelled else ()


def _cutoffs(evaluation: Mapping[str, Any]) -> list[int]:
    return sorted({int(k) for k in evaluation["ks"]})


def check_target(config: Mapping[str, Any], domains: Sequence[str] | None) -> None:
    """Check that the target of a run is a domain of its corpus.

    Args:
        config: of the run, resolved.
        domains: names of the corpus' domains; None where they are not known yet.

    Raises:
        CrossrecError: it is none; the message names the nearest.
    """
    target = config["target"]
    if domains is None or target is None or target == "all" or str(target) in domains:
        return
    raise CrossrecError(f"target={target}: the data have no such domain{nearest(str(target), [*domains, 'all'])}")


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
