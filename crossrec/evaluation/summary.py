"""From metrics per domain to one flat result."""

from __future__ import annotations

from collections.abc import Mapping

COUNT = "n_queries"


def macro(per_domain: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean over domains of the metrics that all of them have; every domain weighs the same.

    Domains without a query are left out. ``n_queries`` (of groups too) is the sum.
    """
    domains = [metrics for metrics in per_domain.values() if metrics.get(COUNT, 1.0) > 0]
    if not domains:
        return {COUNT: 0.0} if per_domain else {}
    shared = [key for key in domains[0] if all(key in metrics for metrics in domains)]
    sums = {key: sum(metrics[key] for metrics in domains) for key in shared}
    return {key: value if key.rpartition("/")[2] == COUNT else value / len(domains) for key, value in sums.items()}


def flatten(stage: str, per_domain: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Name every value ``stage/domain/metric`` and add ``stage/macro/metric``.

    Args:
        stage: ``valid`` or ``test``.
        per_domain: domain name -> metric (of a group: ``group/metric``) -> value.
    """
    return {
        f"{stage}/{domain}/{key}": value
        for domain, metrics in {**per_domain, "macro": macro(per_domain)}.items()
        for key, value in metrics.items()
    }
