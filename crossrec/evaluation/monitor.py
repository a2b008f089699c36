"""What validation computes, and so what may select the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.ranges import at_least
from crossrec.suggestions import nearest

SELECTS = "valid/monitor"
"""What ``evaluation.monitor`` is logged as: its mean over the domains that select the epoch."""


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


def check_watched(config: Mapping[str, Any], domains: Sequence[str] | None = None) -> None:
    """Check that the callbacks that stop a run, or keep epochs of it, watch something that is logged.

    What an epoch of training logs depends on the strategy and its terms, so that ``train/...`` is let through.

    Args:
        config: of the run, resolved.
        domains: names of the domains that validation ranks; None where they are not known yet.

    Raises:
        CrossrecError: names the key and what it may be.
    """
    from hydra.utils import get_object
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    from crossrec.evaluation.summary import COUNT

    metrics = [*validation_names(config["evaluation"]), *label_names(config), COUNT]
    for name, node in (config.get("callbacks") or {}).items():
        made = get_object(node["_target_"]) if node else None
        if not (isinstance(made, type) and issubclass(made, EarlyStopping | ModelCheckpoint)):
            continue
        at_least(f"callbacks.{name}.patience", node.get("patience"), 0)
        monitor = node.get("monitor")
        if monitor is None or str(monitor).startswith("train/"):
            continue
        asked = str(monitor).split("/")[1:2]
        ranked = ["macro", *(asked if domains is None else domains)]
        known = [SELECTS, *(f"valid/{domain}/{metric}" for domain in ranked for metric in metrics)]
        if monitor not in known:
            near = get_close_matches(str(monitor), known, n=1, cutoff=0.7)
            raise CrossrecError(
                f"callbacks.{name}.monitor={monitor} is nothing that validation logs: set {SELECTS}, which selects the "
                f"epoch, or a metric of a domain, such as {(near or ['valid/macro/' + metrics[0]])[0]}"
            )
