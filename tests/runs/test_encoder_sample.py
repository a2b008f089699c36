from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from running import run
from torch.nn.functional import normalize

from crossrec.commands.train import composed
from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.schema import Corpus
from crossrec.data.splits import TRAIN, row_domains
from crossrec.encoders.item_texts import item_texts
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError
from crossrec.evaluation.coconsumption import coconsumption_factors
from crossrec.runs.assemble import load_run
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.encoder_sample import EncoderSample, draw_sample
from crossrec.runs.encoders import whitened


@pytest.fixture
def corpus(small: list[str]) -> Corpus:
    return prepare_corpus(composed([*small, "data.source.n_items=200"]))


def drawn(small: list[str], corpus: Corpus, most: int | None, *words: str) -> EncoderSample:
    return draw_sample(composed([*small, *words]), corpus, [item_texts(corpus)], most)


@pytest.mark.parametrize("whitening", ["none", "pca"])
def test_with_all_items_values_are_those_of_text_cosine(small: list[str], tiny_model: Path, whitening: str) -> None:
    dim = 4 if whitening == "pca" else None
    words = [
        *small, "strategy=text_cosine", f"item_encoder.model={tiny_model}", "target=all", "history_length=5",
        f"item_encoder.whitening={whitening}", f"item_encoder.whitening_dim={dim or 'null'}",
    ]  # fmt: skip
    made, parts = load_run(run(words).path)
    sample = draw_sample(composed(words), parts.corpus, [item_texts(parts.corpus)], None)
    raw = PretrainedText(str(tiny_model)).encode(parts.corpus.items["title"].to_list())
    vectors = whitened(whitening, raw.half().float(), sample, parts.corpus, dim, False)  # type: ignore[arg-type]
    assert [d.name for d in sample.domains] == ["a", "b"] and sample.of == len(sample.items) == 120
    for d in sample.domains:
        assert d.left_out == 0 and len(d.history) == made.metrics["valid"][f"valid/{d.name}/n_queries"]
        assert d.ndcg(vectors).mean() == pytest.approx(made.metrics["valid"][f"valid/{d.name}/ndcg@10"], abs=1e-6)


def test_a_sample_ranks_its_items_for_the_queries_it_knows(small: list[str], corpus: Corpus) -> None:
    sample = drawn(small, corpus, 150)
    vectors = normalize(torch.randn(150, 6, generator=torch.Generator().manual_seed(0)), dim=1).double()
    data = MultiDomainDataModule(corpus, _split(small), uses_history=True)
    for d in sample.domains:
        batch = data.queries("valid", corpus.domain(d.name).index).batch()
        expected = []
        for row in range(len(batch.users)):
            history, relevant, seen = (x[row][x[row] >= 0].numpy() for x in (batch.history, batch.relevant, batch.seen))
            known = np.isin(history, sample.items)
            if not np.isin(relevant, sample.items).any() or not known.any():
                continue
            profile = vectors[np.searchsorted(sample.items, history[known])].mean(0)
            scores = (vectors[d.start : d.stop] @ profile).numpy()
            items = sample.items[d.start : d.stop]
            open_ = ~np.isin(items, seen)
            rank = 1 + (scores[open_] > scores[items == relevant[0]]).sum()
            expected.append(1 / np.log2(rank + 1) if rank <= 10 else 0.0)
        assert 0 < len(expected) == len(batch.users) - d.left_out < len(batch.users)
        np.testing.assert_allclose(d.ndcg(vectors), expected, atol=1e-9)


def _split(small: list[str]) -> object:
    from crossrec.config import build

    return build(composed(small)["split"])


def test_items_are_drawn_by_their_training_rows_from_the_seed(small: list[str], corpus: Corpus) -> None:
    sample, again, other = (drawn(small, corpus, 100, f"seed={seed}") for seed in (0, 0, 1))
    assert np.array_equal(sample.items, again.items) and not np.array_equal(sample.items, other.items)
    assert (np.diff(sample.items) > 0).all() and sample.of == corpus.n_items
    data = MultiDomainDataModule(corpus, _split(small))
    counts = data.train_item_counts().numpy()
    assert counts[sample.items].mean() > 1.2 * counts.mean()
    assert np.array_equal(sample.trained.numpy(), counts[sample.items] > 0)
    assert np.array_equal(sample.domain.numpy(), corpus.items["domain"].to_numpy()[sample.items])


def test_labels_are_of_training_rows_alone_and_test_rows_are_not_asked_for(
    small: list[str], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, queries = [], MultiDomainDataModule.queries

    def spied(self: MultiDomainDataModule, stage: str, domain: int) -> object:
        asked.append(stage)
        return queries(self, stage, domain)  # type: ignore[arg-type]

    monkeypatch.setattr(MultiDomainDataModule, "queries", spied)
    sample = drawn(small, corpus, 100)
    assert asked == ["valid", "valid"]
    data = MultiDomainDataModule(corpus, _split(small))
    second = corpus.domain("b")
    rows = (data.split.label == TRAIN) & (row_domains(corpus) == second.index)
    table = corpus.interactions.filter(pl.Series(rows))
    factors = coconsumption_factors(table["user"].to_numpy(), table["item"].to_numpy() - second.start, second.n_items)
    d = sample.domains[1]
    np.testing.assert_array_equal(d.labels.numpy(), factors[sample.items[d.labelled] - second.start])
    assert d.start <= d.labelled.min() and d.labelled.max() < d.stop and sample.trained[d.labelled].all()


def test_items_without_text_take_no_part(small: list[str], corpus: Corpus) -> None:
    texts = item_texts(corpus)
    gaps = pl.Series([None if i % 2 else text for i, text in enumerate(texts)])
    sample = draw_sample(composed(small), corpus, [texts, gaps], None)
    assert np.array_equal(sample.items, np.arange(0, corpus.n_items, 2)) and all(d.left_out for d in sample.domains)


def test_samples_that_say_nothing_are_refused(small: list[str], corpus: Corpus) -> None:
    with pytest.raises(CrossrecError, match="--texts is 99: give at least 100, or all"):
        drawn(small, corpus, 99)
    few = pl.Series(["a" if i < 3 else None for i in range(corpus.n_items)])
    with pytest.raises(CrossrecError, match=r"validation queries of '.' is about the 3 sampled items: raise --texts"):
        draw_sample(composed(small), corpus, [few], None)


def test_options_of_the_queries_have_an_effect(small: list[str], corpus: Corpus) -> None:
    short, few = (
        drawn(small, corpus, None, "history_length=2"),
        drawn(small, corpus, None, "evaluation.valid_queries=7"),
    )
    assert short.domains[0].history.shape[1] == 2 and len(few.domains[0].history) == 7
