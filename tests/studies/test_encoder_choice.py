from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from crossrec.encoders.model_files import ModelSize
from crossrec.evaluation.gap import Gap
from crossrec.runs.candidates import candidate
from crossrec.runs.encoders import Absent, Comparison, Measured, Variant
from crossrec.studies.encoder_choice import choose, pooled

NOISE = np.random.default_rng(0).random(400)


def variant(whitening: Any, mean: float, *, noise: float = 0.0, seed: int = 1, **more: Any) -> Variant:
    """A variant with this mean NDCG, equal to all others but for ``noise``."""
    values = NOISE + noise * np.random.default_rng(seed).standard_normal(400)
    values = values - values.mean() + mean
    known = {"anisotropy": 0.1, "gaps": {}, "logme": {}, "width": 8, "ndcg": {"b": values}}
    return Variant(whitening=whitening, **{**known, **more})


def model(name: str, rate: float, *variants: Variant, cut: float = 0.0) -> Measured:
    return Measured(candidate(name), ModelSize(10, 20), 8, rate, 9, cut, 64, variants)


def comparison(*found: Measured | Absent, target: tuple[str, ...] = ("b",), chance: float = 0.01) -> Comparison:
    return Comparison("data", SimpleNamespace(), target, dict.fromkeys(target, chance), found)  # type: ignore[arg-type]


def test_the_fastest_of_what_is_within_noise_of_the_best_and_its_best_whitening() -> None:
    slow = model("smollm2", 20, variant("pca", 0.300))
    fast = model("minilm", 270, variant("none", 0.297, noise=0.2), variant("pca", 0.299, noise=0.2))
    poor = model("use", 800, variant("pca", 0.2, noise=0.2, seed=2))
    choice = choose(comparison(slow, Absent(candidate("me/gone"), "gone"), fast, poor))
    assert (choice.made, choice.variant) == (fast, fast.variants[1])
    assert (
        "minilm (pca): mean validation NDCG@10 0.2990 over b is within noise of the best, 0.3000 of smollm2 (pca)"
        in (choice.reason)
    )
    assert "it reads 270 texts/s where that reads 20" in choice.reason


def test_a_slower_model_that_is_surely_better_is_chosen() -> None:
    slow, fast = model("smollm2", 20, variant("pca", 0.3)), model("minilm", 270, variant("none", 0.29, noise=0.01))
    choice = choose(comparison(fast, slow))
    assert choice.made is slow and choice.reason.endswith("0.3000 over b, the best.")
    near = model("minilm", 270, variant("none", 0.3, noise=0.1), variant("centre", 0.299, noise=0.1, seed=2))
    assert choose(comparison(near)).reason.endswith("within noise of it, and not much faster: minilm (centre).")


def test_speeds_that_differ_little_are_the_same() -> None:
    better, worse = model("minilm", 85, variant("pca", 0.3)), model("use", 100, variant("pca", 0.299, noise=0.2))
    assert choose(comparison(better, worse)).made is better
    assert choose(comparison(model("minilm", 75, variant("pca", 0.3)), worse)).made is worse


def test_all_domains_of_the_target_count_the_same() -> None:
    many, few = NOISE - NOISE.mean(), np.zeros(4)
    made = variant("none", 0.0, ndcg={"a": many + 0.1, "b": few + 0.5})
    both = comparison(model("minilm", 1, made), target=("a", "b"))
    assert pooled(both, made).mean() == pytest.approx(0.3) and len(pooled(both, made)) == 404
    other = variant("pca", 0.0, ndcg={"a": many + 0.5, "b": few + 0.05})
    assert choose(comparison(model("minilm", 1, made, other), target=("a", "b"))).variant is made
    assert choose(comparison(model("minilm", 1, made, other), target=("a",))).variant is other


def test_the_line_trains_what_is_recommended() -> None:
    made = model("me/e5,prefix=q: ", 1, variant("pca", 0.3, width=4))
    line = choose(comparison(made), ["data=movielens", "item_encoder.fields=[title]"]).line
    assert line.startswith("crossrec train item_encoder=text ") and "data=movielens" in line
    assert line.endswith("item_encoder.whitening=pca item_encoder.whitening_dim=4")
    raw = choose(comparison(model("use", 1, variant("none", 0.3)))).line
    assert raw == "crossrec train item_encoder=use item_encoder.whitening=none item_encoder.whitening_dim=null"


def test_warnings_name_what_was_measured() -> None:
    gap = Gap(0.1, 0.05, 0.2, 0.001, 0.1, 1.9)
    quiet = variant("none", 0.3, logme={"b": -1.2})
    loud = variant("none", 0.31, anisotropy=0.84, gaps={("a", "b"): gap}, logme={"b": -1.3})
    found = choose(comparison(model("minilm", 9, loud, cut=0.2), model("use", 1, quiet), chance=0.5)).warnings
    assert [sentence.split()[0] for sentence in found] == ["raw", "a", "20%", "in", "LogME"]
    for part, sentence in zip(("mean cosine 0.84", "PAD 1.90", "64 tokens", "chance, 0.5000", "use (none)"), found):
        assert part in sentence
    assert choose(comparison(model("use", 1, quiet))).warnings == []
    whitened = variant("pca", 0.31, anisotropy=0.84, gaps={("a", "b"): Gap(0, 0, 0, 1, 0, 1.4)})
    assert choose(comparison(model("minilm", 9, whitened, cut=0.05))).warnings == []
