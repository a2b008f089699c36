"""What of a study can be told wrong before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.studies.study import Study
from crossrec.suggestions import nearest


def check_metrics(study: Study, config: Mapping[str, Any]) -> None:
    """Check that a run computes every metric of its study's columns.

    Args:
        study: the study.
        config: of a run, resolved.

    Raises:
        CrossrecError: it does not compute one; the message names the nearest.
    """
    known = metric_names(config["evaluation"])
    for metric in study.metrics:
        if metric not in known:
            raise CrossrecError(
                f"metrics: {metric!r} is not computed with evaluation.ks={config['evaluation']['ks']}"
                f"{nearest(metric, known)}"
            )


def metric_names(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the test metrics of a domain under an ``evaluation`` config; groups are left out."""
    from crossrec.evaluation.metrics import names
    from crossrec.evaluation.summary import COUNT

    ks = sorted({int(k) for k in evaluation["ks"]})
    made = [*names(ks), *(f"{name}@{k}" for name in ("novelty", "coverage", "gini") for k in ks)]
    made += [f"diversity@{k}" for k in ks if k > 1] if evaluation["diversity"] else []
    return [*made, COUNT]
