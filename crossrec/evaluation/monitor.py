"""What validation computes, and so what may select the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.suggestions import nearest


def validation_names(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the validation metrics of a domain, which can select an epoch; groups are left out."""
    from crossrec.evaluation.metrics import names

    return names(cutoffs(evaluation))


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the metrics of labelled pairs, where a run has such."""
    from crossrec.evaluation.labels import METRICS

    labelled = config.get("positive_rating") is not None or config["evaluation"]["protocol"] == "sampled"
    return METRICS if labelled else ()


def cutoffs(evaluation: Mapping[str, Any]) -> list[int]:
    """``evaluation.ks`` in order, none twice."""
    return sorted({int(k) for k in evaluation["ks"]})


def check_monitor(config: Mapping[str, Any]) -> None:
    """Check that a run's validation computes ``evaluation.monitor``.

    Args:
        config: of the run, resolved.

    Raises:
        CrossrecError: it does not; the message names the nearest.
    """
    from crossrec.evaluation.collector import GROUPS

    evaluation = config["evaluation"]
    monitor = str(evaluation["monitor"])
    group, _, metric = monitor.rpartition("/")
    if group not in GROUPS:
        raise CrossrecError(
            f"evaluation.monitor={monitor}: no group {group!r}{nearest(group, [g for g in GROUPS if g])}"
        )
    known = [*validation_names(evaluation), *(() if group else label_names(config))]
    if metric not in known:
        raise CrossrecError(
            f"evaluation.monitor={monitor} is not computed in validation with evaluation.ks={evaluation['ks']}"
            f"{nearest(metric, known)}"
        )
