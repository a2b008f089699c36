"""Which text model to begin with, and why: a stated rule over what was measured before training."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crossrec.evaluation.significance import bootstrap_interval
from crossrec.runs.encoders import Comparison, Measured, Variant

RULE = (
    "Rule: of all rows those within noise of the best mean validation NDCG@10 over the target's domains (the 95% "
    "bootstrap interval over queries of the paired difference reaches 0); of these the models that read at .8 or more "
    "of the highest speed; of these the best."
)

FAST = 0.8
"""Share of the highest speed that counts as the same: a busy machine's times differ by as much."""

NARROW = 0.5
"""Mean cosine of raw vectors from which on they should be whitened."""

APART = 1.5
"""Proxy A-distance from which on a classifier hardly ever mistakes the domains."""

CUT = 0.05
"""Share of texts that are cut from which on it is told."""


@dataclass(frozen=True)
class Choice:
    """What is recommended.

    Args:
        made: the model.
        variant: its whitening.
        reason: a sentence.
        warnings: sentences about it and the others.
        line: command that trains with it.
    """

    made: Measured
    variant: Variant
    reason: str
    warnings: Sequence[str]
    line: str


def label(made: Measured, variant: Variant) -> str:
    """Name of a model under a whitening."""
    return f"{made.candidate.name} ({variant.whitening})"


def pooled(comparison: Comparison, variant: Variant) -> npt.NDArray[np.float64]:
    """NDCG@10 of all queries of the target's domains, so weighted that its mean is the mean over these domains."""
    parts = [variant.ndcg[name] for name in comparison.target]
    total = sum(map(len, parts))
    return np.concatenate([part * (total / (len(parts) * len(part))) for part in parts])


def choose(comparison: Comparison, common: Sequence[str] = (), config_dirs: Sequence[Path] = ()) -> Choice:
    """Apply :data:`RULE`.

    Args:
        comparison: what was measured; at least one model was.
        common: overrides of all candidates, for the line.
        config_dirs: folders of configs, for the line.
    """
    entries = [(made, variant) for made in comparison.measured for variant in made.variants]
    values = {label(*entry): pooled(comparison, entry[1]) for entry in entries}
    means = {name: float(value.mean()) for name, value in values.items()}
    best = max(entries, key=lambda entry: means[label(*entry)])
    differences = {name: values[label(*best)] - value for name, value in values.items()}
    intervals = {name: bootstrap_interval(difference) for name, difference in differences.items()}
    alike = [entry for entry in entries if intervals[label(*entry)][0] <= 0]
    fast = [entry for entry in alike if entry[0].rate >= FAST * max(made.rate for made, _ in alike)]
    made, variant = max(fast, key=lambda entry: means[label(*entry)])
    chosen = label(made, variant)
    reason = f"{chosen}: mean validation NDCG@10 {means[chosen]:.4f} over {', '.join(comparison.target)}"
    if made is best[0]:
        near = [label(*entry) for entry in alike if entry[1] is not variant]
        reason += f", the best; within noise of it, and not much faster: {', '.join(near)}." if near else ", the best."
    else:
        low, high = intervals[chosen]
        reason += (
            f" is within noise of the best, {means[label(*best)]:.4f} of {label(*best)} (difference [{low:.4f}, "
            f"{high:.4f}]), and it reads {made.rate:,.0f} texts/s where that reads {best[0].rate:,.0f}."
        )
    folders = [word for folder in config_dirs for word in ("--config-dir", str(folder))]
    words = [*made.candidate.line(common), f"item_encoder.whitening={variant.whitening}"]
    dim = variant.width if variant.whitening == "pca" else "null"
    line = shlex.join(["crossrec", "train", *folders, *words, f"item_encoder.whitening_dim={dim}"])
    return Choice(made, variant, reason, _warnings(comparison, made, variant), line)


def _warnings(comparison: Comparison, made: Measured, variant: Variant) -> list[str]:
    found = []
    for other in comparison.measured:
        for raw in other.variants:
            if raw.whitening == "none" and raw.anisotropy > NARROW:
                found.append(
                    f"raw vectors of {other.candidate.name} lie in a narrow cone (mean cosine {raw.anisotropy:.2f}): "
                    "centre or whiten them before domains are compared"
                )
    for (a, b), gap in variant.gaps.items():
        if gap.pad >= APART:
            found.append(
                f"a linear classifier tells the items of {a} from those of {b} (PAD {gap.pad:.2f} of 2): the domains' "
                "texts are about different things, and a distance between them says little else"
            )
    if made.cut > CUT:
        found.append(f"{made.cut:.0%} of the texts are cut at {made.limit} tokens: raise item_encoder.max_length")
    for name in comparison.target:
        low, _ = variant.intervals[name]
        if low <= comparison.chance[name]:
            found.append(
                f"in {name} the NDCG@10 is not above chance, {comparison.chance[name]:.4f}: expect little of texts"
            )
    scored = [
        (float(np.mean(list(v.logme.values()))), m, v) for m in comparison.measured for v in m.variants if v.logme
    ]
    if scored:
        _, other, preferred = max(scored, key=lambda entry: entry[0])
        if other is not made:
            found.append(f"LogME would choose {label(other, preferred)}: train both where that is affordable")
    return found
